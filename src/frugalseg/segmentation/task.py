"""The training task of fine-tuning."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from frugalseg.dataset.augment import Augment
from frugalseg.dataset.source import Slices, SliceSource, shuffled_batches
from frugalseg.dataset.store import SliceStore
from frugalseg.engine.device import autocast
from frugalseg.engine.task import TrainingTask, steps_and_interval
from frugalseg.models.registry import input_channels
from frugalseg.options import FinetuneOptions
from frugalseg.records.split import Split
from frugalseg.segmentation.consistency import consistency_loss, sigmoid_ramp_up
from frugalseg.segmentation.ema import EMAModel
from frugalseg.segmentation.losses import make_loss, probabilities
from frugalseg.segmentation.organ_dice import OrganWatch
from frugalseg.segmentation.presets import Preset, make_schedule
from frugalseg.segmentation.pseudo import UnlabelledSlices
from frugalseg.segmentation.validate import ValidationSet

REPORTS = 20


@dataclass(frozen=True)
class FinetuneTrainingSet:
    """The slices and labels of one training.

    Attributes:
        labelled: (N,) rows of the store whose masks may be used.
        unlabelled: the other training slices with their pseudo-labels; None where they are not used.
        copies: (N, n) rows of changed copies of each labelled slice, in the source; in a step a slice or one of its
            copies is seen. None without copies.
    """

    labelled: npt.NDArray[np.int64]
    unlabelled: UnlabelledSlices | None = None
    copies: npt.NDArray[np.int64] | None = None

    def choose_copies(self, labelled: Sequence[Tensor], seed: int, epoch: int) -> list[Tensor]:
        """Batches of labelled rows, each row replaced by itself or one of its copies at random, all equally likely."""
        if self.copies is None:
            return list(labelled)
        versions = np.column_stack([self.labelled, self.copies])
        order = np.argsort(self.labelled)
        rng = np.random.default_rng([seed, epoch, 7])

        def choose(rows: Tensor) -> Tensor:
            place = order[np.searchsorted(self.labelled, rows.numpy(), sorter=order)]
            return torch.from_numpy(versions[place, rng.integers(versions.shape[1], size=len(rows))])

        return [choose(rows) for rows in labelled]


class FinetuneTask(TrainingTask):
    """Training of encoder and decoder on labelled slices, and on unlabelled ones if given.

    Labelled and unlabelled slices share a batch and the loss, each pixel weighted by the confidence of its class. An
    unlabelled slice without pseudo-labels only counts in the consistency term.

    Args:
        options: the run's options; `preset` is resolved from them.
        network: the segmenter to train.
        store, split, source: the data; the source is on the device and includes labels.
        training: the slices and labels to learn from.
    """

    def __init__(
        self,
        options: FinetuneOptions,
        preset: Preset,
        network: nn.Module,
        store: SliceStore,
        split: Split,
        source: SliceSource,
        training: FinetuneTrainingSet,
    ) -> None:
        self.options, self.preset, self.training, self.source = options, preset, training, source
        self.ema = EMAModel(network, preset.ema_decay) if preset.ema_decay is not None else None
        self.network, self.size = network, store.size
        self.model = self.ema or network
        self.evaluated_model = self.ema.average if self.ema else network
        self.validation = ValidationSet.from_store(store, split.validation, source, options.precision)
        self.augment = Augment(preset.augment) if preset.augment else None
        self.loss = make_loss(preset.loss)
        self._consistency_weight = torch.zeros((), device=source.device)
        self.steps_per_epoch = len(self._labelled_batches(0))
        # Epochs are counted as in a training on the labels only: trainings with unlabelled slices are equally long.
        epoch = len(shuffled_batches(training.labelled, options.batch_size, options.seed, 0))
        steps = options.steps or (None if options.epochs else preset.steps_for(len(store.targets)))
        self.steps, self.interval = steps_and_interval(epoch, steps, options.epochs or preset.epochs, reports=REPORTS)
        self.interval = options.validate_every or self.interval
        self.watch = OrganWatch(store.targets, self.steps)
        self.optimizer = preset.make_optimizer(network.parameters(), options.lr)
        self.scheduler = make_schedule(preset, self.optimizer, self.steps, epoch)

    def batches(self, epoch: int) -> list[Tensor]:
        """Batches of rows, each (B,): labelled, then unlabelled ones; an epoch is one pass over the labelled ones."""
        labelled = self._labelled_batches(epoch)
        if self.training.unlabelled is None:
            return labelled
        count = self.options.batch_size - len(labelled[0])
        rows = self.training.unlabelled.rows
        order = np.random.default_rng([self.options.seed, epoch, 5]).permutation(len(rows))
        picked = torch.from_numpy(rows[np.resize(order, (len(labelled), count))])
        return [torch.cat(pair) for pair in zip(labelled, picked, strict=True)]

    def _labelled_batches(self, epoch: int) -> list[Tensor]:
        share = 0.0 if self.training.unlabelled is None else self.preset.unlabelled_share
        size = max(1, round(self.options.batch_size * (1 - share)))
        batches = shuffled_batches(self.training.labelled, size, self.options.seed, epoch)
        return self.training.choose_copies(batches, self.options.seed, epoch)

    def stream(self, batches: Sequence[Tensor]) -> Iterator[Slices]:
        """Images of each batch with the masks that may be used."""
        slices = self.source.stream(batches)
        if self.training.unlabelled is None:
            yield from slices
        else:
            for rows, batch in zip(batches, slices, strict=True):
                yield self.training.unlabelled.annotate(rows, batch)

    def losses(self, model: nn.Module, batch: Slices) -> dict[str, Tensor]:
        """The preset's loss on the batch, augmented as the preset says; for a mean teacher also the consistency of the
        network with the average, which gets the slices without intensity augmentation."""
        if self.augment is not None:
            batch = self.augment.move(batch)
        is_mean_teacher = self.preset.semi == "mean-teacher" and self.ema is not None
        teacher = self._teacher_probabilities(batch.inputs) if is_mean_teacher else None
        if self.augment is not None:
            batch = self.augment.recolour(batch)
        assert batch.labels is not None
        logits = model(*batch.inputs)
        parts = self.loss(logits, batch.labels, batch.weights, batch.unknown)
        if teacher is not None:
            parts["consistency"] = consistency_loss(probabilities(logits), teacher)
            parts["loss"] = parts["loss"] + self._consistency_weight * parts["consistency"]
        return parts

    @torch.no_grad()
    def _teacher_probabilities(self, inputs: tuple[Tensor, ...]) -> Tensor:
        with autocast(self.options.precision, inputs[0].device):
            return probabilities(self.evaluated_model(*inputs))

    def graphable_module(self) -> tuple[nn.Module, tuple[int, ...]] | None:
        """The segmenter on a batch, where it takes images alone."""
        if self.source.has_features:
            return None
        return self.network, (len(self.batches(0)[0]), input_channels(self.preset.context), self.size, self.size)

    @property
    def graphable(self) -> bool:
        """All steps are one computation; batches are gathered, and annotated with pseudo-labels, before it."""
        return True

    def before_step(self, step: int) -> None:
        """Set the weight of the consistency term."""
        self._consistency_weight.fill_(sigmoid_ramp_up(step, self.steps))

    def after_step(self) -> None:
        """Update the moving average."""
        if self.ema is not None:
            self.ema.update()

    def validate(self) -> dict[str, float]:
        """Dice per volume on the validation patients; warns of organs not yet learned."""
        figures = self.validation.dice(self.evaluated_model)
        self.watch.check(figures, self.scheduler.last_epoch)
        return figures
