"""What every training does in the same order: everything given is opened and checked, then the folder is claimed, then
it is trained, saved and recorded."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from frugalseg.engine.loop import TrainingPlan, TrainingTask, train
from frugalseg.engine.progress import say
from frugalseg.engine.run import RunFolder, RunOptions

if TYPE_CHECKING:
    from lightning.fabric import Fabric


class OpenedTraining(Protocol):
    """A training whose data and options are opened and checked; nothing is written yet."""

    @property
    def command(self) -> str:
        """The command's name, for the record."""

    @property
    def options(self) -> RunOptions:
        """What was asked for."""

    @property
    def fabric(self) -> Fabric:
        """The processes and the device."""

    def identity(self) -> dict[str, str]:
        """Hashes of what is learned from: a run is resumed on the same or not at all."""

    def learn(self, run: RunFolder) -> None:
        """Train, and write into the claimed folder what was learned; model.json last of all."""


def run_training(training: OpenedTraining) -> RunFolder:
    """Claim the folder and train, or find that it is done.

    Raises:
        RunError: the folder may not be taken (see `RunFolder.claim`).
        InterruptedRunError: stopped by the person; resumable.
    """
    with RunFolder.claim(training.command, training.options, training.fabric, training.identity()) as run:
        if run.finished:
            say(f"{run.path} is finished")
        else:
            training.learn(run)
    return run


def train_and_save(
    task: TrainingTask, plan: TrainingPlan, fabric: Fabric, run: RunFolder, save: Callable[[], None]
) -> None:
    """Train a task to its end; the first process then saves, and the others wait for it."""
    train(task, plan, fabric, run)
    if fabric.is_global_zero:
        save()
    fabric.barrier()
