"""Work on many scans in parallel, with a progress bar and errors that name the scan."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import TypeVar

from frugalseg.engine.memory import is_out_of_memory
from frugalseg.engine.progress import progress
from frugalseg.engine.threads import cores_to_use, use_threads
from frugalseg.errors import FrugalsegError, PairingError, ScanError, vanished_file_error
from frugalseg.text import pluralize

Job = TypeVar("Job")
Result = TypeVar("Result")


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
        try:
            results[case] = work(job)
        except (ScanError, PairingError) as error:
            failures[case] = error
        except FrugalsegError:  # not caused by this scan, for example a full disk
            raise
        except OSError as error:
            if (vanished := vanished_file_error(error)) is None:
                raise RuntimeError(f"unexpected error in case {case}: {error}") from error
            failures[case] = vanished
        except Exception as error:
            if is_out_of_memory(error):
                failures[case] = _memory_error(case, parallel)
                return
            raise RuntimeError(f"unexpected error in case {case}: {error}") from error

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
    order = list(jobs)
    return ({c: results[c] for c in order if c in results}, {c: failures[c] for c in order if c in failures})


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
