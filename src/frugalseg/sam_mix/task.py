"""The training task of SAM-Mix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from frugalseg.dataset.augment import Augment
from frugalseg.dataset.source import Slices, SliceSource, shuffled_batches
from frugalseg.dataset.store import SliceStore
from frugalseg.engine.device import autocast
from frugalseg.engine.optimization import Optimization
from frugalseg.engine.task import TrainingTask, steps_and_interval
from frugalseg.options import SamMixTrainOptions
from frugalseg.records.split import Split
from frugalseg.sam_mix.classifier import focal_loss
from frugalseg.sam_mix.features import Features
from frugalseg.sam_mix.losses import SEGMENTATION_WEIGHT, map_loss, mask_losses
from frugalseg.sam_mix.model import MixModel, PromptBatch
from frugalseg.sam_mix.prompts import boxes_of_masks, expand_boxes
from frugalseg.sam_mix.validate import MixValidation
from frugalseg.segmentation.consistency import sigmoid_ramp_up
from frugalseg.segmentation.organ_dice import OrganWatch

DEFAULT_EPOCHS = 10
REPORTS = 10
MASK_BOX_SHARE = 0.5
"""Share of the training prompts with the mask's box."""
CONFIDENT = 0.9
"""Pseudo-labels need a score of the mask and a probability of the organ above this."""
SELF_TRAINING_WEIGHT = 0.25
"""Highest weight of the self-training term (MultiMix's)."""


@dataclass(frozen=True)
class MixTrainingSet:
    """The slices and labels of one training.

    Attributes:
        image_labelled_rows: (N,) rows of the store whose image-level labels are used.
        labelled: (M,) rows whose masks are used.
        alpha: for each organ the weight in the focal loss of slices that show it.
    """

    image_labelled_rows: npt.NDArray[np.int64]
    labelled: npt.NDArray[np.int64]
    alpha: tuple[float, ...]


@dataclass(frozen=True)
class MixBatch:
    """Slices for the classifier, and labelled ones for the masks.

    Attributes:
        images: (B, 1, S, S).
        present: (B, K) which organs they show.
        without_mask: (B,) bool, those whose masks are not used.
        labelled: (N, 1, S, S) images and (N, S, S) labels.
        maps: of the frozen encoder, (B + N, C, h, w), the last N of the labelled slices, or these N only; None where
            the encoder is run.
    """

    images: Tensor
    present: Tensor
    without_mask: Tensor
    labelled: Slices
    maps: Tensor | None


class MixTask(TrainingTask):
    """Training of both branches: image-level labels on all slices, masks on a few.

    A step takes `batch_size` slices for the classifier, and `masks_per_step` labelled ones, whose masks train the
    classifier's map and the SAM branch, with one prompt for one of the organs in each slice.

    Steps are not captured as CUDA graphs: which organs are sought, and how many prompts a step has, is read back.

    Args:
        options: the run's options.
        model: to train.
        store, split, source: the data; the source is on the device and includes labels.
        training: the slices and labels to learn from.
        features: maps of the frozen encoder, or None where the encoder is adapted.
    """

    def __init__(
        self,
        options: SamMixTrainOptions,
        model: MixModel,
        store: SliceStore,
        split: Split,
        source: SliceSource,
        training: MixTrainingSet,
        features: Features | None,
    ) -> None:
        self.options, self.model, self.source = options, model, source
        self.training, self.features = training, features
        self.mix = model
        self.present = torch.tensor(store.slices[store.presence_columns].to_numpy(np.float32))
        self.without_mask = torch.ones(len(store.slices), dtype=torch.bool)
        self.without_mask[torch.from_numpy(training.labelled)] = False
        self.validation = MixValidation.with_features(store, split.validation, source, options.precision, features)
        self.augment = Augment("light") if options.augment else None
        self.steps_per_epoch = len(shuffled_batches(training.image_labelled_rows, options.batch_size, options.seed, 0))
        self.steps, self.interval = steps_and_interval(
            self.steps_per_epoch, options.steps, options.epochs or DEFAULT_EPOCHS, reports=REPORTS
        )
        self.interval = options.validate_every or self.interval
        self.watch = OrganWatch(store.targets, self.steps)
        optimization = Optimization(lr=options.lr, weight_decay=0.0, schedule="one_cycle")
        from_scratch, from_base = _split_parameters(model)
        groups: list[dict[str, Any]] = [{"params": from_scratch, "lr": options.classifier_lr}, {"params": from_base}]
        # The classifier has 20 million weights: one pass over them takes half the time of several.
        self.optimizer = optimization.make_optimizer(groups, fused=True)
        self.scheduler = optimization.make_schedule(self.optimizer, self.steps)

    def batches(self, epoch: int) -> list[Tensor]:
        """Batches of rows, each (B + N,): those for the classifier, then labelled ones."""
        image_labelled = shuffled_batches(
            self.training.image_labelled_rows, self.options.batch_size, self.options.seed, epoch
        )
        order = np.random.default_rng([self.options.seed, epoch, 6]).permutation(self.training.labelled)
        labelled = torch.from_numpy(np.resize(order, (len(image_labelled), self.options.masks_per_step)))
        return [torch.cat(pair) for pair in zip(image_labelled, labelled, strict=True)]

    def stream(self, batches: Sequence[Tensor]) -> Iterator[MixBatch]:
        """Gather slices, labels and, where cached, maps."""
        size = self.options.batch_size
        for rows, slices in zip(batches, self.source.stream(batches), strict=True):
            assert slices.labels is not None
            maps = None
            if self.features is not None:
                maps = self.features(rows if self.options.self_training else rows[size:]).to(slices.images.device)
            yield MixBatch(
                slices.images[:size],
                self.present[rows[:size]].to(slices.images.device),
                self.without_mask[rows[:size]].to(slices.images.device),
                Slices(slices.images[size:], slices.labels[size:]),
                maps,
            )

    def losses(self, model: nn.Module, batch: MixBatch) -> dict[str, Tensor]:
        """L_cls + 0.5 L_seg + L_map, and with --self-training its term."""
        prompts, targets = self._make_prompts(batch)
        pseudo_labels = self._pseudo_labels(batch) if self.options.self_training else None
        all_prompts = prompts if pseudo_labels is None else _concatenate_prompts(prompts, pseudo_labels[0])
        classified, map_slices, map_labels = self._classifier_inputs(batch)
        out = model(classified, map_slices, all_prompts)
        count = len(targets)
        kind = self.options.mask_loss
        masks = mask_losses(out["masks"][:count], out["scores"][:count], targets, kind)
        parts = {
            "class_loss": focal_loss(
                out["present"], batch.present, self.training.alpha, gamma=self.options.focal_gamma
            ),
            "map_loss": map_loss(out["cams"], map_labels),
            "mask_loss": masks.pop("loss"),
            **masks,
        }
        parts["loss"] = parts["class_loss"] + SEGMENTATION_WEIGHT * parts["mask_loss"]
        parts["loss"] = parts["loss"] + self.options.map_weight * parts["map_loss"]
        if self.options.self_training:
            parts["self_loss"] = torch.zeros_like(parts["loss"])
            if pseudo_labels is not None:
                pseudo = mask_losses(out["masks"][count:], out["scores"][count:], pseudo_labels[1], kind)
                parts["self_loss"] = pseudo["loss"]
            weight = SELF_TRAINING_WEIGHT * sigmoid_ramp_up(self.scheduler.last_epoch, self.steps)
            parts["loss"] = parts["loss"] + weight * parts["self_loss"]
        return parts

    def _classifier_inputs(self, batch: MixBatch) -> tuple[Tensor, Tensor, Tensor]:
        """The classifier's augmented inputs: slices with image-level labels (B, 1, S, S), and those whose masks train
        its map, (L, 1, S, S) with classes (L, S, S)."""
        classified, map_slices = Slices(batch.images, None), batch.labelled
        assert map_slices.labels is not None
        if not self.options.map_weight:
            map_slices = Slices(map_slices.images[:0], map_slices.labels[:0])
        if self.augment is not None:
            classified, map_slices = (
                self.augment(slices) if len(slices.images) else slices for slices in (classified, map_slices)
            )
        assert map_slices.labels is not None
        return classified.images, map_slices.images, map_slices.labels

    def _make_prompts(self, batch: MixBatch) -> tuple[PromptBatch, Tensor]:
        """One prompt for each labelled slice, for one of its organs, and the organ's mask (N, S, S)."""
        labels = batch.labelled.labels
        assert labels is not None
        count, device = len(labels), labels.device
        classes = torch.arange(1, self.present.shape[1] + 1, device=device)
        there = (labels[:, None] == classes[:, None, None]).any(dim=3).any(dim=2).float()
        organs = torch.multinomial(there.cpu(), 1)[:, 0].to(device)
        targets = labels == (organs + 1)[:, None, None]
        use_mask_box = torch.rand(count).to(device) < MASK_BOX_SHARE
        maps = None if batch.maps is None else batch.maps[-count:]
        return PromptBatch(batch.labelled.images, organs, self._draw_boxes(targets), use_mask_box, maps), targets

    def _draw_boxes(self, masks: Tensor) -> Tensor:
        """Boxes (N, 4) around the masks, randomly expanded."""
        boxes, _ = boxes_of_masks(masks)
        return expand_boxes(boxes, masks.shape[-1], torch.rand(boxes.shape).to(boxes.device))

    def _pseudo_labels(self, batch: MixBatch) -> tuple[PromptBatch, Tensor] | None:
        """Confident masks of slices whose masks are not used, with their prompts; at most as many as labelled slices,
        to bound the memory of a step."""
        with autocast(self.options.precision, batch.images.device):
            maps = batch.maps
            found = self.mix.find(batch.images, None if maps is None else lambda wanted: maps[wanted])
        logits, scores = found.best()
        confident = (scores > CONFIDENT) & (found.present[found.slices, found.organs] > CONFIDENT)
        confident &= (logits > 0).flatten(1).any(dim=1) & batch.without_mask[found.slices]
        chosen = torch.nonzero(confident)[: len(batch.labelled.images), 0]
        if len(chosen) == 0:
            return None
        slices, targets = found.slices[chosen], logits[chosen] > 0
        use_mask_box = torch.ones(len(chosen), dtype=torch.bool, device=slices.device)
        encoded = None if maps is None else maps[slices]
        boxes = self._draw_boxes(targets)
        return PromptBatch(batch.images[slices], found.organs[chosen], boxes, use_mask_box, encoded), targets

    def validate(self) -> dict[str, float]:
        """Dice per volume and figures of the classifier on the validation patients; warns of organs not yet learned."""
        figures = self.validation.evaluate(self.mix)
        self.watch.check(figures, self.scheduler.last_epoch)
        return figures


def _split_parameters(model: MixModel) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Parameters that start from random values or zero; and those of the base model, with its LoRA."""
    from_scratch = {*model.classifier.parameters(), model.branch.share}
    from_base = [p for p in model.branch.parameters() if p.requires_grad and p not in from_scratch]
    return [p for p in model.parameters() if p in from_scratch], from_base


def _concatenate_prompts(one: PromptBatch, other: PromptBatch) -> PromptBatch:
    pairs = zip(one, other, strict=True)
    return PromptBatch(*(None if a is None or b is None else torch.cat([a, b]) for a, b in pairs))  # type: ignore[arg-type]
