"""The steps common to all trainings: open and check data and options, claim the run folder, train, save."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from frugalseg.engine.loop import train
from frugalseg.engine.memory_estimate import count_training_bytes, tell_memory
from frugalseg.engine.progress import say
from frugalseg.engine.run import RunFolder, RunOptions
from frugalseg.engine.task import TrainingPlan, TrainingTask

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class OpenedTraining(Protocol):
    """A training whose data and options are opened and checked; nothing is written yet."""

    @property
    def command(self) -> str:
        """Name of the command."""

    @property
    def options(self) -> RunOptions:
        """Its options."""

    @property
    def fabric(self) -> Fabric:
        """The processes and the device."""

    def identity(self) -> dict[str, str]:
        """Hashes of the training data: a run is resumed only on the same data."""

    def learn(self, run: RunFolder) -> None:
        """Train, and write the model into the claimed folder, model.json last."""


def run_training(training: OpenedTraining) -> RunFolder:
    """Claim the folder and train, unless the run is finished.

    Raises:
        RunError: the folder cannot be used (see `RunFolder.claim`).
        InterruptedRunError: stopped by the user; resumable.
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
    """Train to the end; the first process then saves, and the others wait for it."""
    if (whole := task.graphable_module()) is not None:
        network, shape = whole
        mixed = fabric._precision.precision != "32-true"
        tell_memory(count_training_bytes(network, shape, fabric.device, mixed), fabric.device)
    train(task, plan, fabric, run)
    if fabric.is_global_zero:
        save()
    fabric.barrier()
