"""What runs on the machines of a Ray cluster: one scan of a command's work, and the check of a machine before it.

Imports neither PyTorch nor numpy, so that their threads can be set before they are loaded.
"""

from __future__ import annotations

import os
import platform
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frugalseg._version import __version__
from frugalseg.engine.parallel import noting_failures
from frugalseg.engine.progress import collect_messages, no_heartbeat, register_activity
from frugalseg.engine.threads import prepare_environment, use_threads
from frugalseg.errors import FrugalsegError, RunError

if TYPE_CHECKING:
    from frugalseg.engine.pool import CaseWork

COMPARED = ("torch", "numpy", "scipy")
"""Packages whose version changes results; those of Python and Ray are compared by Ray."""


@dataclass(frozen=True)
class Order:
    """Work as it is sent.

    Attributes:
        key: identifies the work, so that a process sets it up once.
        work: the `CaseWork`, pickled.
        versions: those of the process that sends it.
        threads: CPU threads for each scan.
    """

    key: str
    work: bytes
    versions: Mapping[str, str]
    threads: int


@dataclass
class Answer:
    """What comes back for one scan.

    Attributes:
        machine, node: the name of the machine, and Ray's id of it.
        made: what the work made.
        failure: an error caused by the scan.
        problem: any other error that a user can correct: of this machine.
        bug: any other error, as text with its traceback.
        said: lines for the user.
        warned: warnings.
    """

    machine: str
    node: str
    made: Any = None
    failure: FrugalsegError | None = None
    problem: FrugalsegError | None = None
    bug: str | None = None
    said: list[str] = field(default_factory=list)
    warned: list[tuple[str, type[Warning], str, int]] = field(default_factory=list)


@dataclass(frozen=True)
class Checked:
    """A machine that was checked.

    Attributes:
        machine: its name.
        problem: what it lacks, or None.
        cpu: the instructions that PyTorch uses.
    """

    machine: str
    problem: FrugalsegError | None
    cpu: str


def list_versions() -> dict[str, str]:
    """Versions in this process of what changes results."""
    return {"frugalseg": __version__, **{name: metadata.version(name) for name in COMPARED}}


_set_up: dict[str, CaseWork[Any, Any, Any]] = {}
"""The work that this process has set up: the last one, by its key."""


def work_on(order: list[Any], case: str, job: bytes) -> Answer:
    """Do the work on one scan.

    Args:
        order: reference to the `Order`; in a list, so that Ray does not fetch it for every scan.
        case: case id.
        job: what `CaseWork.read` takes, pickled.
    """
    import ray

    known: Order = ray.get(order[0])  # an error of Ray ends the task as if its process were lost
    answer = Answer(platform.node(), ray.get_runtime_context().get_node_id())
    with _telling(answer):
        try:
            answer.made, answer.failure = _work_on(known, case, job)
        except FrugalsegError as error:
            answer.problem = error
        except Exception:
            import traceback

            answer.bug = traceback.format_exc()
    return answer


def _work_on(order: Order, case: str, job: bytes) -> tuple[Any, FrugalsegError | None]:
    import pickle

    prepare_environment(order.threads)
    work, failures, made = _find_work(order), dict[str, FrugalsegError](), None
    with use_threads(order.threads), noting_failures(case, failures, parallel=1):
        unpacked = pickle.loads(job)
        made = work.pack(case, unpacked, work.make(case, work.read(case, unpacked)))
    return made, failures.get(case)


def _find_work(order: Order) -> CaseWork[Any, Any, Any]:
    """The work, set up: that of this process, where the last scan was of the same command."""
    if order.key not in _set_up:
        _set_up.clear()  # a model of an earlier command
        work = _open_work(order)
        # The process that sent the work has set it up, too, and shown what that says.
        with use_threads(order.threads), collect_messages(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            work.set_up()
        _set_up[order.key] = work
    return _set_up[order.key]


def _open_work(order: Order) -> CaseWork[Any, Any, Any]:
    """The work as it was sent, on a machine that is like the sender's; raises `RunError` where it is not."""
    import pickle

    own = list_versions()
    if differing := [f"{name} {own[name]}" for name in own if own[name] != order.versions[name]]:
        there = ", ".join(f"{name} {version}" for name, version in order.versions.items() if own[name] != version)
        raise RunError(
            f"it has {', '.join(differing)}, the machine that runs the command has {there}",
            "install the same versions on all machines",
        )
    work: CaseWork[Any, Any, Any] = pickle.loads(order.work)
    if missing := [path for path in work.inputs() if not _is_readable(path)]:
        raise RunError(
            f"{missing[0]} is not there, or cannot be read", "mount the shared folder at the same path on all machines"
        )
    return work


def _is_readable(path: Path) -> bool:
    return os.access(path, os.R_OK)


def check_machine(order: Order) -> Checked:
    """Whether a machine has the same versions and sees the inputs."""
    problem = None
    prepare_environment(order.threads)
    try:
        _open_work(order)
    except FrugalsegError as error:
        problem = error
    import torch

    return Checked(platform.node(), problem, torch.backends.cpu.get_cpu_capability())


@contextmanager
def _telling(answer: Answer) -> Iterator[None]:
    """Collect messages and warnings for the process that shows them; bars of single scans are not shown."""
    with (
        collect_messages() as said,
        warnings.catch_warnings(record=True) as warned,
        register_activity(str),
        no_heartbeat(),
    ):
        warnings.simplefilter("always")
        yield
    answer.said = said
    answer.warned = [(str(w.message), w.category, w.filename, w.lineno) for w in warned]
