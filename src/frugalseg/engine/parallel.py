"""The same work on many scans at once, with a progress bar, and errors that name the scan."""

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
    """Do `work` on every job, `workers` at a time.

    Threads, not processes: decompression, hashing and resampling release the interpreter's lock, nothing is
    copied between processes, and an error arrives with its traceback instead of as a dead worker.

    Args:
        work: the work on one scan.
        jobs: case id → what `work` takes.
        title: what the progress bar says.
        workers: scans at a time; by default one a thread; 0 works in the calling thread. They share the threads.

    Returns:
        Results, and the errors that lie in a scan or its mask, both by case id in the order of `jobs`. Any other
        exception is raised, with the case id named; jobs not yet started are then dropped.
    """
    at_once = min(cores_to_use() if workers is None else workers, max(1, len(jobs)))
    results: dict[str, Result] = {}
    failures: dict[str, FrugalsegError] = {}

    def attempt(case: str, job: Job) -> None:
        try:
            results[case] = work(job)
        except (ScanError, PairingError) as error:
            failures[case] = error
        except FrugalsegError:  # a full disk, say, is no fault of this scan
            raise
        except OSError as error:
            if (vanished := vanished_file_error(error)) is None:
                raise RuntimeError(f"unexpected error in case {case}: {error}") from error
            failures[case] = vanished
        except Exception as error:
            if is_out_of_memory(error):
                failures[case] = _memory_error(case, at_once)
                return
            raise RuntimeError(f"unexpected error in case {case}: {error}") from error

    with progress(title, len(jobs), "scans") as bar:
        if at_once == 0:
            for case, job in jobs.items():
                attempt(case, job)
                bar.advance()
        else:
            with use_threads(max(1, cores_to_use() // at_once)), ThreadPoolExecutor(at_once) as pool:
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


def _memory_error(case: str, at_once: int) -> ScanError:
    """The error of a scan that did not fit into the memory while `at_once` were worked on; 0 or 1 alone."""
    if at_once > 1:
        others = pluralize(at_once - 1, "other")
        return ScanError(f"{case}: not enough memory for it in parallel with {others}", "use fewer --workers")
    return ScanError(
        f"{case}: not enough memory for it, though no other scan is worked on",
        "end other programs, take a machine with more memory, or crop the scan",
    )


def format_failures(failures: Mapping[str, FrugalsegError], most: int = 20) -> str:
    """What is wrong with each failed scan and what to do, for a message."""
    lines = [
        f"  {error.problem if case in error.problem else f'{case}: {error.problem}'}\n      → {error.cure}"
        for case, error in list(failures.items())[:most]
    ]
    if len(failures) > most:
        lines.append(f"  … and {len(failures) - most} more")
    return "\n".join(lines)
