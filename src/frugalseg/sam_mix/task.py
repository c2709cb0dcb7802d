"""SAM-Mix as the training loop sees it."""

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
from frugalseg.engine.loop import Task, steps_and_interval
from frugalseg.engine.schedules import one_cycle
from frugalseg.options import SamMixTrainOptions
from frugalseg.records.split import Split
from frugalseg.sam_mix.classifier import focal_loss
from frugalseg.sam_mix.features import Features
from frugalseg.sam_mix.losses import SEGMENTATION, map_loss, mask_losses
from frugalseg.sam_mix.model import MixModel, PromptBatch
from frugalseg.sam_mix.prompts import boxes_of_masks, moved_outward
from frugalseg.sam_mix.validate import MixValidation
from frugalseg.segmentation.consistency import ramp

EPOCHS = 10
REPORTS = 10
TAUGHT = 0.5
"""Share of the training prompts whose box is the mask's own."""
SURE = 0.9
"""Self-training believes masks whose score and whose organ's probability are above this."""
SELF_TRAINING = 0.25
"""Highest weight of the self-training term (MultiMix's)."""


@dataclass(frozen=True)
class TrainingSet:
    """What one training learns from.

    Attributes:
        taught: (N,) rows of the store whose image-level labels are learned from.
        labelled: (M,) rows whose masks are.
        alpha: for each organ the focal loss's weight of slices that show it.
    """

    taught: npt.NDArray[np.int64]
    labelled: npt.NDArray[np.int64]
    alpha: tuple[float, ...]


@dataclass(frozen=True)
class Batch:
    """Slices for the classifier, and labelled ones for the masks.

    Attributes:
        images: (B, 1, S, S).
        present: (B, K) which organs they show.
        free: (B,) bool, whose masks are not learned from.
        labelled: (N, 1, S, S) images and (N, S, S) labels.
        maps: of the frozen encoder, (B + N, C, h, w), the last N those of the labelled slices, or these alone; None
            where the encoder is run.
    """

    images: Tensor
    present: Tensor
    free: Tensor
    labelled: Slices
    maps: Tensor | None


class MixTask(Task):
    """Training of both branches: image-level labels on all slices, masks on a few.

    A step takes `batch_size` slices for the classifier, and beside them `masks_per_step` labelled ones, whose masks
    teach where the classifier's map should lie, and the SAM branch: in each, one organ that it shows is sought.

    Steps are not captured as CUDA graphs: which organs are sought, and how many prompts a step has, is read back.

    Args:
        options: the run's options.
        model: to train.
        store, split, source: the data; the source is on the device and includes labels.
        training: what may be learned from.
        features: maps of the frozen encoder, or None where the encoder is adapted.
    """

    def __init__(
        self,
        options: SamMixTrainOptions,
        model: MixModel,
        store: SliceStore,
        split: Split,
        source: SliceSource,
        training: TrainingSet,
        features: Features | None,
    ) -> None:
        self.options, self.model, self.source = options, model, source
        self.training, self.features = training, features
        self.mix = model
        self.present = torch.tensor(store.slices[store.presence_columns].to_numpy(np.float32))
        self.free = torch.ones(len(store.slices), dtype=torch.bool)
        self.free[torch.from_numpy(training.labelled)] = False
        self.validation = MixValidation.around(store, split.validation, source, options.precision, features)
        self.augment = Augment("light") if options.augment else None
        self.steps_per_epoch = len(shuffled_batches(training.taught, options.batch_size, options.seed, 0))
        self.steps, self.interval = steps_and_interval(
            self.steps_per_epoch, options.steps, options.epochs or EPOCHS, reports=REPORTS
        )
        self.interval = options.validate_every or self.interval
        rates = [options.classifier_lr, options.lr]
        parts = zip(_new_and_brought(model), rates, strict=True)
        # The classifier has 20 million weights: one pass over them takes half the time of several.
        self.optimizer = torch.optim.Adam([{"params": part, "lr": rate} for part, rate in parts], fused=True)
        self.scheduler = one_cycle(self.optimizer, self.steps)

    def batches(self, epoch: int) -> list[Tensor]:
        """Batches of rows, each (B + N,): those for the classifier, then labelled ones."""
        taught = shuffled_batches(self.training.taught, self.options.batch_size, self.options.seed, epoch)
        order = np.random.default_rng([self.options.seed, epoch, 6]).permutation(self.training.labelled)
        beside = torch.from_numpy(np.resize(order, (len(taught), self.options.masks_per_step)))
        return [torch.cat(pair) for pair in zip(taught, beside, strict=True)]

    def stream(self, batches: Sequence[Tensor]) -> Iterator[Batch]:
        """Gather slices, labels, and maps where they are kept."""
        size = self.options.batch_size
        for rows, slices in zip(batches, self.source.stream(batches), strict=True):
            assert slices.labels is not None
            maps = None
            if self.features is not None:
                maps = self.features(rows if self.options.self_training else rows[size:]).to(slices.images.device)
            yield Batch(
                slices.images[:size],
                self.present[rows[:size]].to(slices.images.device),
                self.free[rows[:size]].to(slices.images.device),
                Slices(slices.images[size:], slices.labels[size:]),
                maps,
            )

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """L_cls + 0.5 L_seg + L_map, and where asked for the self-training term."""
        asked, targets = self._ask(batch)
        believed = self._believed(batch) if self.options.self_training else None
        both = asked if believed is None else _joined(asked, believed[0])
        shown, pointed, pointed_at = self._shown(batch)
        out = model(shown, pointed, both)
        count = len(targets)
        kind = self.options.mask_loss
        masks = mask_losses(out["masks"][:count], out["scores"][:count], targets, kind)
        parts = {
            "class_loss": focal_loss(
                out["present"], batch.present, self.training.alpha, gamma=self.options.focal_gamma
            ),
            "map_loss": map_loss(out["cams"], pointed_at),
            "mask_loss": masks.pop("loss"),
            **masks,
        }
        parts["loss"] = parts["class_loss"] + SEGMENTATION * parts["mask_loss"]
        parts["loss"] = parts["loss"] + self.options.map_weight * parts["map_loss"]
        if self.options.self_training:
            parts["self_loss"] = torch.zeros_like(parts["loss"])
            if believed is not None:
                parts["self_loss"] = mask_losses(out["masks"][count:], out["scores"][count:], believed[1], kind)["loss"]
            weight = SELF_TRAINING * ramp(self.scheduler.last_epoch, self.steps)
            parts["loss"] = parts["loss"] + weight * parts["self_loss"]
        return parts

    def _shown(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """What the classifier sees, changed at random: slices with image-level labels (B, 1, S, S), and those whose
        masks teach its map, (L, 1, S, S) with classes (L, S, S)."""
        shown, pointed = Slices(batch.images, None), batch.labelled
        assert pointed.labels is not None
        if not self.options.map_weight:
            pointed = Slices(pointed.images[:0], pointed.labels[:0])
        if self.augment is not None:
            shown, pointed = (self.augment(slices) if len(slices.images) else slices for slices in (shown, pointed))
        assert pointed.labels is not None
        return shown.images, pointed.images, pointed.labels

    def _ask(self, batch: Batch) -> tuple[PromptBatch, Tensor]:
        """One prompt about each labelled slice, for one of its organs, and the organ's mask (N, S, S)."""
        labels = batch.labelled.labels
        assert labels is not None
        count, device = len(labels), labels.device
        classes = torch.arange(1, self.present.shape[1] + 1, device=device)
        there = (labels[:, None] == classes[:, None, None]).any(dim=3).any(dim=2).float()
        organs = torch.multinomial(there.cpu(), 1)[:, 0].to(device)
        targets = labels == (organs + 1)[:, None, None]
        taught = torch.rand(count).to(device) < TAUGHT
        maps = None if batch.maps is None else batch.maps[-count:]
        return PromptBatch(batch.labelled.images, organs, self._moved(targets), taught, maps), targets

    def _moved(self, masks: Tensor) -> Tensor:
        boxes, _ = boxes_of_masks(masks)
        return moved_outward(boxes, masks.shape[-1], torch.rand(boxes.shape).to(boxes.device))

    def _believed(self, batch: Batch) -> tuple[PromptBatch, Tensor] | None:
        """What the model is sure of in slices whose masks are not learned from, as prompts and masks; at most as many
        as there are labelled slices, to keep the memory of a step bounded."""
        with autocast(self.options.precision, batch.images.device):
            maps = batch.maps
            found = self.mix.find(batch.images, None if maps is None else lambda wanted: maps[wanted])
        logits, scores = found.best()
        sure = (scores > SURE) & (found.present[found.slices, found.organs] > SURE)
        sure &= (logits > 0).flatten(1).any(dim=1) & batch.free[found.slices]
        chosen = torch.nonzero(sure)[: len(batch.labelled.images), 0]
        if len(chosen) == 0:
            return None
        slices, targets = found.slices[chosen], logits[chosen] > 0
        taught = torch.ones(len(chosen), dtype=torch.bool, device=slices.device)
        mine = None if maps is None else maps[slices]
        return PromptBatch(batch.images[slices], found.organs[chosen], self._moved(targets), taught, mine), targets

    def validate(self) -> dict[str, float]:
        """Dice per volume and figures of the classifier on the validation patients."""
        return self.validation.judge(self.mix)


def _new_and_brought(model: MixModel) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """What starts from nothing; and what the base model brought, with its LoRA."""
    new = {*model.classifier.parameters(), model.branch.share}
    brought = [p for p in model.branch.parameters() if p.requires_grad and p not in new]
    return [p for p in model.parameters() if p in new], brought


def _joined(one: PromptBatch, other: PromptBatch) -> PromptBatch:
    pairs = zip(one, other, strict=True)
    return PromptBatch(*(None if a is None or b is None else torch.cat([a, b]) for a, b in pairs))  # type: ignore[arg-type]
