"""What a training command provides for the training loop: a task, and how long it runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


class TrainingTask(ABC):
    """One kind of training: model, data, loss and validation.

    Attributes:
        model: the network; the loop moves it to the device.
        optimizer, scheduler: the scheduler is stepped after every optimiser step.
        steps_per_epoch: batches of every epoch.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    steps_per_epoch: int

    @abstractmethod
    def batches(self, epoch: int) -> list[Tensor]:
        """The epoch's batches as tensors of store rows, first axis the samples; a function of (seed, epoch)."""

    @abstractmethod
    def stream(self, batches: Sequence[Tensor]) -> Iterator[Any]:
        """Load these batches to the device, in order."""

    @abstractmethod
    def losses(self, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        """The loss to minimise under "loss", and its parts under their names; all scalars."""

    def graphable_module(self) -> tuple[nn.Module, tuple[int, ...]] | None:
        """A network that every step calls exactly once, on inputs of one shape, and this shape.

        None where there is no such network. On a GPU its passes are captured and replayed (`engine.cuda_graphs`)
        where whole steps are not.
        """
        return None

    @property
    def graphable(self) -> bool:
        """Whether all steps are the same computation, which one GPU can capture as a CUDA graph and replay.

        `losses` and `after_step` then read nothing back from the device, and depend on no number that changes from step
        to step, but for what `before_step` writes into tensors. Batches are dataclasses of tensors.
        """
        return False

    def before_step(self, step: int) -> None:  # noqa: B027 - most trainings have nothing to do
        """Write what the next step depends on into tensors, `step` being the number of steps done."""

    def after_step(self) -> None:  # noqa: B027 - most trainings have nothing to do
        """Update moving averages or queues after an optimiser step.

        The state that this changes must be part of `model`, since checkpoints contain only that.
        """

    def validate(self) -> dict[str, float]:
        """Metrics on the validation patients; the highest "score", if there is one, chooses the best checkpoint."""
        return {}


@dataclass(frozen=True)
class TrainingPlan:
    """Length of a training and intervals of its reports.

    Attributes:
        steps: total number of optimiser steps.
        report_every: steps between reports, each with validation, log entry and checkpoint.
        seed: random seed of the training.
        clip: maximum gradient norm, or None.
        checkpoint_minutes: longest time between checkpoints, in minutes.
    """

    steps: int
    report_every: int
    seed: int
    clip: float | None
    checkpoint_minutes: float


def steps_and_interval(
    steps_per_epoch: int, steps: int | None, epochs: int | None, reports: int | None
) -> tuple[int, int]:
    """Total steps, and steps between reports.

    Args:
        steps_per_epoch: batches per epoch.
        steps: total number of steps, if given.
        epochs: total number of epochs, if `steps` is not given.
        reports: approximate number of reports per run; None for one per epoch. An interval longer than an epoch is a
            whole number of epochs.
    """
    total = steps if steps is not None else (epochs or 1) * steps_per_epoch
    if reports is None:
        return total, steps_per_epoch
    interval = max(1, total // reports)
    if interval > steps_per_epoch:
        interval -= interval % steps_per_epoch
    return total, interval
