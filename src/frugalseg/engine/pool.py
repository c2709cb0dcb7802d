"""The work of a command on many scans, and the pools that do it: here, or on the machines of a Ray cluster
(`ray_pool`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

from frugalseg.engine.parallel import map_cases, overlap_cases
from frugalseg.engine.threads import cores_to_use
from frugalseg.errors import FrugalsegError

Job = TypeVar("Job")
Source = TypeVar("Source")
Made = TypeVar("Made")
Result = TypeVar("Result")

Outcome: TypeAlias = tuple[dict[str, Result], dict[str, FrugalsegError]]
"""Results, and errors caused by a scan or its mask, both by case id in the order of the jobs."""


class CaseWork(ABC, Generic[Job, Source, Made]):
    """What a command does with each scan, described once for every pool; a frozen dataclass.

    Its fields are sent to each process that works on scans. What such a process makes for itself, a loaded model for
    example, is a `cached_property`, which is not sent.
    """

    def inputs(self) -> Iterable[Path]:
        """Files and folders that every machine must see, beside the scans themselves."""
        return ()

    def set_up(self) -> None:
        """Load what the work on every scan needs; called once in each process.

        Raises:
            FrugalsegError: this machine lacks something.
        """

    @abstractmethod
    def read(self, case: str, job: Job) -> Source:
        """What `make` needs of one scan; may run while another scan is being worked on."""

    @abstractmethod
    def make(self, case: str, source: Source) -> Made:
        """The work on one scan."""

    def pack(self, case: str, job: Job, made: Made) -> Made:
        """What another machine sends back instead of `made`: the same, in fewer bytes."""
        return made

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]


@dataclass(frozen=True)
class FunctionWork(CaseWork[Job, Job, Made]):
    """Work that is one function of the job."""

    function: Callable[[Job], Made]

    def read(self, case: str, job: Job) -> Job:
        """See `CaseWork.read`."""
        return job

    def make(self, case: str, source: Job) -> Made:
        """See `CaseWork.make`."""
        return self.function(source)


class Pool(ABC):
    """Does work on many scans."""

    @abstractmethod
    def run(
        self,
        work: CaseWork[Job, Any, Made],
        jobs: Mapping[str, Job],
        keep: Callable[[str, Made], Result],
        title: str,
    ) -> Outcome[Result]:
        """Do `work` on every job.

        Args:
            work: what to do.
            jobs: case id → what `work.read` takes.
            keep: case id and what was made → the result; writes files. Always called in this process.
            title: title of the progress bar.

        Raises:
            FrugalsegError: for any other reason than a scan or its mask, a full disk for example.
        """

    @abstractmethod
    def describe(self, device: str) -> str:
        """Where the work is done; `device` is the device of this process, in words."""


class OneAfterAnother(Pool):
    """One scan after the other on all cores; meanwhile the next scan is read, and the last result is kept."""

    def run(
        self,
        work: CaseWork[Job, Any, Made],
        jobs: Mapping[str, Job],
        keep: Callable[[str, Made], Result],
        title: str,
    ) -> Outcome[Result]:
        """See `Pool.run`."""
        return overlap_cases(lambda case: work.read(case, jobs[case]), work.make, keep, list(jobs), title)

    def describe(self, device: str) -> str:
        """See `Pool.describe`."""
        return device


@dataclass(frozen=True)
class InThreads(Pool):
    """Several scans at a time, each in one thread, which also calls `keep`: in several threads at once.

    Attributes:
        workers: see `parallel.map_cases`.
    """

    workers: int | None

    def run(
        self,
        work: CaseWork[Job, Any, Made],
        jobs: Mapping[str, Job],
        keep: Callable[[str, Made], Result],
        title: str,
    ) -> Outcome[Result]:
        """See `Pool.run`."""

        def do(case: str) -> Result:
            return keep(case, work.make(case, work.read(case, jobs[case])))

        return map_cases(do, {case: case for case in jobs}, title, self.workers)

    def describe(self, device: str) -> str:
        """See `Pool.describe`."""
        return device

    def threads_each(self, jobs: int) -> int:
        """CPU threads of each scan, for this number of scans."""
        cores = cores_to_use()
        at_once = max(1, min(cores if self.workers is None else self.workers, jobs))
        return max(1, cores // at_once)
