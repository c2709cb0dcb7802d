"""Work on scans as tasks of a Ray cluster: Ray finds the machines, this process alone keeps the results.

The scans and other inputs must have the same paths on all machines. What is made comes back to this process, which
writes it, so that `--out` need not be shared.
"""

from __future__ import annotations

import time
import uuid
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from frugalseg.engine.parallel import in_order
from frugalseg.engine.pool import CaseWork, Job, Made, Outcome, Pool, Result
from frugalseg.engine.progress import progress, say
from frugalseg.engine.ray_cluster import ATTEMPTS, RayCluster, first_line
from frugalseg.engine.ray_worker import Answer, Checked, Order, check_machine, list_versions, work_on
from frugalseg.engine.threads import requested_threads, usable_cores
from frugalseg.errors import DiskError, FrugalsegError, RunError, ScanError
from frugalseg.text import pluralize

CHECK_S = 300.0
"""Longest time for a machine to load the libraries from a slow disk, and answer."""
WITHOUT_MACHINES_S = 60.0
"""Time that a cluster may have no machine for the work before the command ends."""
POLL_S = 2.0


@contextmanager
def open_pool(
    address: str | None, local: Pool, at_once: int | None = None, threads: int | None = None, gpu: bool = True
) -> Iterator[Pool]:
    """The pool of a command: `local` without `--ray`.

    Args:
        address: `--ray`: see `RayCluster.connect`.
        local: the pool of this machine.
        at_once: scans at a time on the whole cluster; None for as many as fit.
        threads: CPU threads of each scan; None for those that this command was asked for, or all of a machine.
        gpu: whether a scan uses a GPU of a cluster that has some.

    Raises:
        OptionError, RunError: see `RayCluster.connect`.
    """
    if address is None:
        yield local
        return
    threads = threads or requested_threads() or (usable_cores() if address == "local" else None)
    if address == "local" and threads is not None:
        at_once = at_once or max(1, usable_cores() // threads)
    cluster = RayCluster.connect(address, at_once, threads)
    try:
        yield RayPool(cluster, gpu)
    finally:
        cluster.close()


class RayPool(Pool):
    """Each scan is a task on one machine.

    A scan whose process or machine is lost is begun again elsewhere, at most `ATTEMPTS` times. A machine with a full
    disk gets no further scans.

    Args:
        cluster: the cluster; it stays open.
        gpu: whether each scan uses a GPU, where there are some.
    """

    def __init__(self, cluster: RayCluster, gpu: bool) -> None:
        self.cluster, self._ray, self._gpus = cluster, cluster.ray, cluster.gpus if gpu else 0

    @property
    def threads(self) -> int:
        """CPU threads of each scan."""
        return self.cluster.threads

    def describe(self, device: str) -> str:
        """See `Pool.describe`."""
        gpu = " and a GPU" if self._gpus else ""
        return (
            f"a Ray cluster, {pluralize(self.cluster.at_once, 'scan')} at a time "
            f"with {pluralize(self.threads, 'thread')}{gpu} each"
        )

    def run(
        self,
        work: CaseWork[Job, Any, Made],
        jobs: Mapping[str, Job],
        keep: Callable[[str, Made], Result],
        title: str,
    ) -> Outcome[Result]:
        """See `Pool.run`."""
        if not jobs:
            return {}, {}
        order = Order(uuid.uuid4().hex, self._ray.cloudpickle.dumps(work), list_versions(), self.threads)
        self._check_machines(order)
        tasks = _Tasks(self._ray, self._ray.put(order), jobs, {"num_cpus": self.threads, "num_gpus": self._gpus})
        results: dict[str, Result] = {}
        with progress(title, len(jobs), "scans") as bar:
            try:
                for case, answer in tasks.answers(self.cluster.count_submitted, self._require_machines):
                    if answer is not None and case not in tasks.failures:
                        results[case] = keep(case, answer.made)
                    bar.advance()
            finally:
                tasks.cancel()
        return in_order(jobs, results), in_order(jobs, tasks.failures)

    def _check_machines(self, order: Order) -> None:
        """Ask every machine for its versions and whether it sees the inputs.

        Raises:
            RunError: some machines differ; all of them are named.
        """
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as OnMachine

        check = self._ray.remote(max_retries=0, num_cpus=0)(check_machine)
        asked = {
            check.options(scheduling_strategy=OnMachine(node["NodeID"], soft=False)).remote(order): _name(node)
            for node in self.cluster.list_machines()
        }
        self._ray.wait(list(asked), num_returns=len(asked), timeout=CHECK_S)
        found = [(name, checked) for task, name in asked.items() if (checked := self._read_check(task)) is not None]
        if problems := [(name, checked.problem) for name, checked in found if checked.problem is not None]:
            listed = "\n".join(f"  machine {name}: {error.problem}" for name, error in problems)
            problem = f"{len(problems)} of {pluralize(len(found), 'machine')} cannot do this work:\n{listed}"
            raise RunError(problem, problems[0][1].cure)
        if len(kinds := {checked.cpu for _, checked in found}) > 1:
            warnings.warn(
                f"the machines have CPUs with different instructions ({', '.join(sorted(kinds))}); "
                "results can differ from those of one machine in the last digits",
                stacklevel=4,
            )

    def _read_check(self, task: Any) -> Checked | None:
        """The answer of a machine; None where it has left meanwhile."""
        left = (self._ray.exceptions.TaskUnschedulableError, self._ray.exceptions.NodeDiedError)
        try:
            checked: Checked = self._ray.get(task, timeout=0)
        except self._ray.exceptions.GetTimeoutError:
            return Checked("", RunError(f"it did not answer within {CHECK_S:.0f} s", "see `ray status`"), "")
        except left:
            return None
        except self._ray.exceptions.RayError as error:
            return Checked("", RunError(first_line(error), "install the same frugalseg on all machines"), "")
        return checked

    def _require_machines(self, without: Mapping[str, FrugalsegError]) -> None:
        """Raise `RunError` where no machine is left that may be used; those in `without` may not."""
        left = [node for node in self.cluster.list_machines() if node["NodeID"] not in without]
        if not left and without:
            error = next(iter(without.values()))
            raise RunError(f"no machine of the cluster can go on: {error.problem}", error.cure)
        if not left:
            raise RunError("no machine is left in the cluster", "see `ray status`, then run the same command again")


class _Tasks:
    """The tasks of one piece of work.

    Args:
        ray: the package.
        order: reference to the `Order`.
        jobs: case id → what the work takes.
        resources: of each task.

    Attributes:
        failures: case id → error caused by the scan.
    """

    def __init__(self, ray: Any, order: Any, jobs: Mapping[str, Any], resources: Mapping[str, float]) -> None:
        self._ray, self._order, self._jobs = ray, order, jobs
        # Not repeated by Ray, which would repeat a scan that fills the memory for ever.
        self._remote, self._resources = ray.remote(max_retries=0)(work_on), resources
        self._waiting, self._running = deque(jobs), dict[Any, str]()
        self._lost = Counter[str]()
        self._without: dict[str, FrugalsegError] = {}
        self.failures: dict[str, FrugalsegError] = {}

    def answers(
        self, most: Callable[[], int], require_machines: Callable[[Mapping[str, FrugalsegError]], None]
    ) -> Iterator[tuple[str, Answer | None]]:
        """Each case with its answer when it is there (None where its process died too often).

        Args:
            most: the number of tasks that may run, wait for a machine, or have results that are not yet taken.
            require_machines: called now and then while nothing comes; raises if nothing can come.
        """
        quiet_since = time.monotonic()
        while self._waiting or self._running:
            for _ in range(min(len(self._waiting), most() - len(self._running))):
                self._submit(self._waiting.popleft())
            finished, _ = self._ray.wait(list(self._running), num_returns=1, timeout=POLL_S)
            if finished:
                quiet_since = time.monotonic()
            elif self._without or time.monotonic() - quiet_since > WITHOUT_MACHINES_S:
                require_machines(self._without)
            for task in finished:
                case = self._running.pop(task)
                if (ended := self._take(case, task)) is not None:
                    yield ended

    def cancel(self) -> None:
        """End the tasks that still run, with their processes."""
        for task in self._running:
            self._ray.cancel(task, force=True)

    def _submit(self, case: str) -> None:
        options = dict(self._resources)
        if self._without:
            options["label_selector"] = {"ray.io/node-id": f"!in({','.join(self._without)})"}  # type: ignore[assignment]
        job = self._ray.cloudpickle.dumps(self._jobs[case])
        task = self._remote.options(name=f"scan {case}", **options).remote([self._order], case, job)
        self._running[task] = case

    def _take(self, case: str, task: Any) -> tuple[str, Answer | None] | None:
        """The answer of a finished task; None if its scan is begun again."""
        try:
            answer: Answer = self._ray.get(task)
        except self._ray.exceptions.RayError as error:
            return self._note_loss(case, error)
        for line in answer.said:
            say(line)
        for text, category, file, line_number in answer.warned:
            warnings.warn_explicit(text, category, file, line_number, registry=_shown)
        if answer.bug is not None:
            raise RuntimeError(f"unexpected error in case {case} on machine {answer.machine}:\n{answer.bug}")
        if isinstance(answer.problem, DiskError):
            self._leave_machine(case, answer, answer.problem)
            return None
        if answer.problem is not None:
            raise type(answer.problem)(f"machine {answer.machine}: {answer.problem.problem}", answer.problem.cure)
        if answer.failure is not None:
            self.failures[case] = answer.failure
        return case, answer

    def _note_loss(self, case: str, error: Exception) -> tuple[str, None] | None:
        """Begin a scan again whose process or machine was lost, or give it up."""
        self._lost[case] += 1
        if self._lost[case] < ATTEMPTS:
            say(f"{case}: the process working on it was lost ({first_line(error)}); it is begun again")
            self._waiting.append(case)
            return None
        self.failures[case] = ScanError(
            f"{case}: the process working on it was lost {ATTEMPTS} times, the last time: {first_line(error)}",
            "most likely memory ran out: run it alone by --case, on a machine with more memory",
        )
        return case, None

    def _leave_machine(self, case: str, answer: Answer, problem: FrugalsegError) -> None:
        """Begin a scan again on another machine, and send this one no more."""
        if answer.node not in self._without:
            self._without[answer.node] = type(problem)(
                f"machine {answer.machine}: {problem.problem}", f"free some space on {answer.machine}"
            )
            warnings.warn(f"machine {answer.machine} is used no more: {problem.problem}", stacklevel=2)
        self._waiting.append(case)


_shown: dict[Any, Any] = {}
"""The warnings shown so far: one that several scans give is shown once, as if they were processed here."""


def _name(node: Mapping[str, Any]) -> str:
    return f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
