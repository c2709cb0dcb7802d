"""Work on many scans in parallel, with a progress bar and errors that name the scan."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from itertools import zip_longest
from typing import TypeVar

from frugalseg.engine.host_memory import free_host_memory
from frugalseg.engine.memory import is_out_of_memory
from frugalseg.engine.progress import progress
from frugalseg.engine.threads import cores_to_use, use_threads
from frugalseg.errors import FrugalsegError, PairingError, ScanError, vanished_file_error
from frugalseg.text import pluralize

Job = TypeVar("Job")
Source = TypeVar("Source")
Made = TypeVar("Made")
Result = TypeVar("Result")

FREE_TO_READ_AHEAD = 4 << 30
"""Bytes of free memory: enough for a scan of 1024×1024×400 voxels, the work on one, and their masks."""


def map_cases(
    work: Callable[[Job], Result], jobs: Mapping[str, Job], title: str, workers: int | None = None
) -> tuple[dict[str, Result], dict[str, FrugalsegError]]:
    """Do `work` on every job, `workers` in parallel.

    Threads, not processes: decompression, hashing and resampling release the interpreter's lock, nothing is copied
    between processes, and errors keep their traceback.

    Args:
        work: the work on one scan.
        jobs: case id → argument of `work`.
        title: title of the progress bar.
        workers: scans in parallel, which share the CPU threads; by default one per thread.
            0: all in the calling thread.

    Returns:
        Results, and errors caused by a scan or its mask, both by case id in the order of `jobs`. Any other exception is
        raised, naming the case id; jobs not yet started are then cancelled.
    """
    parallel = min(cores_to_use() if workers is None else workers, max(1, len(jobs)))
    results: dict[str, Result] = {}
    failures: dict[str, FrugalsegError] = {}

    def attempt(case: str, job: Job) -> None:
        with noting_failures(case, failures, parallel):
            results[case] = work(job)

    with progress(title, len(jobs), "scans") as bar:
        if parallel == 0:
            for case, job in jobs.items():
                attempt(case, job)
                bar.advance()
        else:
            with use_threads(max(1, cores_to_use() // parallel)), ThreadPoolExecutor(parallel) as pool:
                futures: list[Future[None]] = [pool.submit(attempt, case, job) for case, job in jobs.items()]
                try:
                    for future in as_completed(futures):
                        future.result()
                        bar.advance()
                except BaseException:
                    pool.shutdown(cancel_futures=True)
                    raise
    return in_order(jobs, results), in_order(jobs, failures)


def in_order(cases: Iterable[str], found: Mapping[str, Result]) -> dict[str, Result]:
    """What was found, in the order of the cases."""
    return {case: found[case] for case in cases if case in found}


def overlap_cases(
    read: Callable[[str], Source],
    work: Callable[[str, Source], Made],
    write: Callable[[str, Made], Result],
    cases: Sequence[str],
    title: str,
) -> tuple[dict[str, Result], dict[str, FrugalsegError]]:
    """Do `work` on one scan after the other, while one thread reads the next scan and one writes the last result.

    So memory holds two scans and two results at most. The next scan is read early only while `FREE_TO_READ_AHEAD` is
    left.

    Args:
        read: case id → what `work` takes.
        work: case id and that → what `write` takes; called in this thread, which Ctrl-C reaches at once.
        write: case id and that → the result.
        cases: case ids.
        title: what the progress bar says.

    Returns:
        As `map_cases`; a result that is being written when an exception is raised is still written.
    """
    results: dict[str, Result] = {}
    failures: dict[str, FrugalsegError] = {}
    with progress(title, len(cases), "scans") as bar, ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:

        def finish(case: str, writing: Future[Result]) -> None:
            with noting_failures(case, failures, parallel=1):
                results[case] = writing.result()
            bar.advance()

        ahead: Future[Source] | None = None
        behind: tuple[str, Future[Result]] | None = None
        for case, following in zip_longest(cases, cases[1:]):
            reading = ahead or reader.submit(read, case)
            early = following is not None and free_host_memory() >= FREE_TO_READ_AHEAD
            ahead = reader.submit(read, following) if early else None
            with noting_failures(case, failures, parallel=1):
                made = work(case, reading.result())
            del reading  # it holds the scan
            if behind is not None:
                finish(*behind)
            if case in failures:
                behind = None
                bar.advance()
            else:
                behind = case, writer.submit(write, case, made)
                del made  # the writer alone holds it
        if behind is not None:
            finish(*behind)
    return results, in_order(cases, failures)


@contextmanager
def noting_failures(case: str, failures: dict[str, FrugalsegError], parallel: int) -> Iterator[None]:
    """Note an error that lies in a scan or its mask; any other is raised, with the case id named."""
    try:
        yield
    except (ScanError, PairingError) as error:
        failures[case] = error
    except FrugalsegError:  # a full disk, say, is no fault of this scan
        raise
    except OSError as error:
        if (vanished := vanished_file_error(error)) is None:
            raise RuntimeError(f"unexpected error in case {case}: {error}") from error
        failures[case] = vanished
    except Exception as error:
        if not is_out_of_memory(error):
            raise RuntimeError(f"unexpected error in case {case}: {error}") from error
        failures[case] = _memory_error(case, parallel)


def _memory_error(case: str, parallel: int) -> ScanError:
    """The error of a scan that did not fit into memory while `parallel` scans were processed (0 or 1: it alone)."""
    if parallel > 1:
        others = pluralize(parallel - 1, "other")
        return ScanError(f"{case}: not enough memory for it in parallel with {others}", "use fewer --workers")
    return ScanError(
        f"{case}: not enough memory for it, although it is processed alone",
        "close other programs, use a machine with more memory, or crop the scan",
    )


def format_failures(failures: Mapping[str, FrugalsegError], most: int = 20) -> str:
    """For a message: the problem of each failed scan and what to do."""
    lines = [
        f"  {error.problem if case in error.problem else f'{case}: {error.problem}'}\n      → {error.cure}"
        for case, error in list(failures.items())[:most]
    ]
    if len(failures) > most:
        lines.append(f"  … and {len(failures) - most} more")
    return "\n".join(lines)
