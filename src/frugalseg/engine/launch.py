"""How processes that share one training were started: by torchrun, or by SLURM's `srun` alone.

Imports no PyTorch, so that a command learns quickly that it must not be started several times.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping

from frugalseg.errors import OptionError

SLURM_PORTS = range(20_000, 30_000)
"""Ports of the first task at which the tasks of a SLURM step meet; a step takes one by its number."""


def join_slurm_step(environ: MutableMapping[str, str] = os.environ) -> None:
    """In a task of `srun`, one of several, set the variables that torchrun would have set.

    Each task counts as a machine with one process, whatever the distribution of the tasks. A batch script is no such
    task: only `srun` numbers a step. `SLURM_NTASKS=1` before the command keeps it separate.
    """
    tasks = int(environ.get("SLURM_NTASKS", "1"))
    if tasks < 2 or "SLURM_STEP_ID" not in environ or "WORLD_SIZE" in environ:
        return
    from lightning_fabric.plugins.environments import SLURMEnvironment

    machines = environ.get("SLURM_STEP_NODELIST") or environ.get("SLURM_JOB_NODELIST", "127.0.0.1")
    number = int(environ.get("SLURM_JOB_ID", "0")) * 31 + int(environ["SLURM_STEP_ID"])
    environ.setdefault("MASTER_ADDR", SLURMEnvironment.resolve_root_node_address(machines))
    environ.setdefault("MASTER_PORT", str(SLURM_PORTS[number % len(SLURM_PORTS)]))
    rank = environ.get("SLURM_PROCID", "0")
    environ.update(WORLD_SIZE=str(tasks), RANK=rank, GROUP_RANK=rank, LOCAL_RANK="0", LOCAL_WORLD_SIZE="1")


def count_processes(environ: Mapping[str, str] = os.environ) -> int:
    """Number of processes that were started together, this one included."""
    return int(environ.get("WORLD_SIZE", "1"))


def choose_gpu(visible: int, environ: Mapping[str, str] = os.environ) -> int:
    """Index of the GPU of this process among the visible ones: its own, or the only one that SLURM shows it."""
    in_machine = environ.get("LOCAL_RANK", "0")
    if "TORCHELASTIC_RUN_ID" not in environ and count_processes(environ) > 1:
        in_machine = environ.get("SLURM_LOCALID", in_machine)
    return int(in_machine) % max(1, visible)


def require_one_process(what: str) -> None:
    """Raise `OptionError` if several processes were started together.

    Args:
        what: a sentence, as "SAM-Mix trains in one process".
    """
    join_slurm_step()
    if (count := count_processes()) > 1:
        raise OptionError(
            f"{what}, and {count} were started together", "start it once: without torchrun, or with `srun --ntasks 1`"
        )
