"""`frugalseg sam-mix train`: train a classifier on image-level labels and a SAM on a few masks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from frugalseg._version import __version__
from frugalseg.dataset.budget import Budget, draw_labels
from frugalseg.dataset.source import SliceSource
from frugalseg.dataset.store import SliceStore, presence_column
from frugalseg.engine.device import autocast, make_fabric
from frugalseg.engine.files import check_out
from frugalseg.engine.launch import require_one_process
from frugalseg.engine.loop import BestStep, load_best
from frugalseg.engine.progress import say
from frugalseg.engine.run import RunFolder
from frugalseg.engine.task import TrainingPlan
from frugalseg.engine.threads import with_threads
from frugalseg.engine.training import run_training, train_and_save
from frugalseg.errors import SplitError
from frugalseg.options import Keep, SamMixTrainOptions
from frugalseg.promptable.load import resolve_name
from frugalseg.records.sam_mix import BaseModel, FocalLoss, SamMixAnnotation, SamMixRecord, SamMixSettings
from frugalseg.records.split import Split
from frugalseg.sam_mix.branch import count_trained_parameters
from frugalseg.sam_mix.checkpoint import build_mix_model, save_mix
from frugalseg.sam_mix.classifier import balanced_alpha
from frugalseg.sam_mix.features import Features
from frugalseg.sam_mix.model import MixModel
from frugalseg.sam_mix.task import MixTask, MixTrainingSet
from frugalseg.segmentation.label_checks import LabelDraw
from frugalseg.segmentation.labels import (
    keep_everything,
    make_annotation_use,
    open_labelled,
    report_kept,
    validation_rows,
)
from frugalseg.segmentation.organ_dice import read_figures, select_organ_dice, warn_of_unlearned
from frugalseg.segmentation.record import scan_roles
from frugalseg.text import pluralize

if TYPE_CHECKING:
    from lightning_fabric import Fabric

KEEP_CHOICES: tuple[Keep, ...] = ("all", "largest", "core")


@with_threads
def sam_mix_train(options: SamMixTrainOptions) -> RunFolder:
    """Train both branches and save them in `options.out`.

    Raises:
        StoreError, SplitError, RunError, DeviceError, OptionError: as their docstrings say, before any training.
        InterruptedRunError: stopped by the user; can be resumed.
    """
    return run_training(SamMixTraining.open(options))


@dataclass(frozen=True)
class SamMixTraining:
    """A training of SAM-Mix, opened and checked."""

    options: SamMixTrainOptions
    store: SliceStore
    split: Split
    source: SliceSource
    training: MixTrainingSet
    fabric: Fabric
    model: MixModel
    command: str = "sam-mix train"

    @classmethod
    def open(cls, options: SamMixTrainOptions) -> SamMixTraining:
        """Open and check all inputs."""
        require_one_process("SAM-Mix trains in one process")
        options = replace(options, base=resolve_name(options.base))
        check_out(options.out)
        store, budget, split = open_labelled(options)
        fabric = make_fabric(options.device, options.precision)
        training = select_training_set(store, split, options, budget)
        rows = np.concatenate([training.image_labelled_rows, training.labelled, validation_rows(store, split)])
        source = SliceSource(store, fabric.device, with_labels=True, rows=rows)
        torch.manual_seed(options.seed)
        # Before the folder is claimed: raises for a base model that does not fit.
        model = build_mix_model(_mix_settings(options, store), options.base, fabric.device)
        return cls(options, store, split, source, training, fabric, model)

    def identity(self) -> dict[str, str]:
        """Hashes of the store and the split, and the signature of the base model."""
        return {**self.store.identity(self.split), "base": self.model.branch.signature}

    def learn(self, run: RunFolder) -> None:
        """Train and save."""
        options, model, training = self.options, self.model, self.training
        base_state = {name: value.clone() for name, value in model.branch.state_dict().items()}
        features = self.features(options, model, run) if options.adapt == "decoder" else None
        task = MixTask(options, model, self.store, self.split, self.source, training, features)
        counts = count_trained_parameters(model.branch)
        say(
            f"SAM-Mix on {pluralize(len(training.image_labelled_rows), 'slice')} with image-level labels and "
            f"{pluralize(len(training.labelled), 'mask')} ({Budget.parse(options.budget).in_words}, "
            f"draw {options.label_draw}); {model.branch.name}, trained: "
            + ", ".join(f"{part} {count:,}" for part, count in counts.items())
            + f"; {pluralize(task.steps, 'step')}"
        )
        plan = TrainingPlan(task.steps, task.interval, options.seed, None, options.checkpoint_minutes)
        train_and_save(task, plan, self.fabric, run, lambda: self._save(run, task, base_state))

    def features(self, options: SamMixTrainOptions, model: MixModel, run: RunFolder) -> Features:
        """Cache of the frozen encoder's maps, computed at first use."""

        @torch.inference_mode()
        def encode(row: int) -> Tensor:
            with autocast(options.precision, self.fabric.device):
                return model.encode(self.source.gather(torch.tensor([row])).images)[0]

        return Features(encode, len(self.store.slices), run.path)

    def _save(self, run: RunFolder, task: MixTask, base_state: Mapping[str, Tensor]) -> None:
        """Save the best model, interpolated towards the base as the validation patients choose, with its record."""
        best = load_best(run, task, task.steps)
        task.mix.eval()
        factor = 1.0
        dice: dict[str, float] = {}
        if best.score is None:
            keep, scan_boxes = keep_everything(self.store.targets), dict.fromkeys(self.store.targets, False)
        else:
            trained = {**read_figures(run, best.step), "score": best.score}
            factor, figures = task.validation.interpolate_to_base(task.mix, base_state, trained)
            best, dice = replace(best, score=figures["score"]), select_organ_dice(figures, self.store.targets)
            say(f"weights interpolated between the base model (0%) and the trained one (100%): {factor:.0%}")
            scan_boxes = task.validation.choose_scan_boxes(task.mix)
            chosen = [organ for organ, better in scan_boxes.items() if better]
            say(f"boxes from the scan's first masks: {', '.join(chosen) or 'no organ'}")
            keep = replace(task.validation, scan_boxes=tuple(scan_boxes.values())).choose_keep(task.mix, KEEP_CHOICES)
            report_kept(keep)
        save_mix(run.path, task.mix, self._record(task, keep, scan_boxes, best, dice, factor))
        warn_of_unlearned(dice)

    def _record(
        self,
        task: MixTask,
        keep: dict[str, Keep],
        scan_boxes: dict[str, bool],
        best: BestStep,
        dice: dict[str, float],
        factor: float,
    ) -> SamMixRecord:
        """The record of the model, for prediction and evaluation."""
        options, store, training, branch = self.options, self.store, self.training, task.mix.branch
        used, seen = (set(store.slices.loc[rows, "case"]) for rows in (training.labelled, training.image_labelled_rows))
        classifier = sum(p.numel() for p in task.mix.classifier.parameters())
        return SamMixRecord(
            version=__version__,
            base=BaseModel(options.base, branch.name, branch.signature),
            settings=_mix_settings(options, store),
            trained={"classifier": classifier, **count_trained_parameters(branch)},
            parameters=sum(p.numel() for p in task.mix.parameters()),
            targets=store.targets,
            preprocessing=store.preprocessing,
            keep=keep,
            interpolation=factor,
            map_factor=None if branch.share is None else float(branch.share.detach()),
            scan_boxes=scan_boxes,
            step=best.step,
            validation_dice=best.score,
            validation_dice_of_organs=dice,
            focal=FocalLoss(dict(zip(store.targets, training.alpha, strict=True)), options.focal_gamma),
            annotation=SamMixAnnotation(
                **asdict(make_annotation_use(options, store, training.labelled, task.validation.cases)),
                organ_present_labels=len(training.image_labelled_rows),
                organ_present_scans=len(seen),
            ),
            scans=scan_roles(store, self.split, used, store.fingerprints_of_cases(seen)),
        )


def _mix_settings(options: SamMixTrainOptions, store: SliceStore) -> SamMixSettings:
    """The settings that build the model."""
    return SamMixSettings(
        adapt=options.adapt,
        rank=options.lora_rank,
        dense=options.dense_prompt,
        threshold=options.map_threshold,
        classifier_size=options.classifier_size,
        map_stride=options.map_stride,
        organs=len(store.targets),
        size=store.size,
    )


def select_training_set(store: SliceStore, split: Split, options: SamMixTrainOptions, budget: Budget) -> MixTrainingSet:
    """The slices of the training patients with image-level labels, and those of them with masks of the budget.

    Raises:
        SplitError: the budget exceeds the labels, or none of its masks shows an organ; or all training slices show an
            organ, or none does.
    """
    usable = store.slices[store.is_middle(options.middle_fraction)]
    labelled = draw_labels(usable, split.train, budget, options.label_draw, store.presence_columns)
    LabelDraw(store, usable, split.train, budget, options.label_draw, labelled).check_organs()
    labelled = labelled[_has_mask(store, labelled)]
    if not len(labelled):
        raise SplitError(
            f"no mask of the budget is left at {store.size} pixels a side: the organs are too small in its slices",
            "prepare a store with a larger --size, or give a larger --budget",
        )
    image_labelled = usable[usable["labelled"] & usable["patient"].isin(split.train)]
    alpha = []
    for organ in store.targets:
        column = image_labelled[presence_column(organ)]
        if column.all() or not column.any():
            which = "all" if column.all() else "none"
            raise SplitError(
                f"{which} of the {len(column)} training slices {'show' if which == 'all' else 'shows'} {organ}: "
                "a classifier needs slices with and without it",
                "train on whole scans (--middle-fraction 1), or on scans that reach beyond the organ"
                if which == "all"
                else "check --target of the store, or put patients with the organ into the training part",
            )
        share = float(column.mean())
        alpha.append(balanced_alpha(share) if options.focal_alpha is None else options.focal_alpha)
    return MixTrainingSet(image_labelled.index.to_numpy(np.int64), labelled, tuple(alpha))


def _has_mask(store: SliceStore, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Whether each slice has a mask to learn from. The store's labels decide, not its presence columns: the end of an
    organ can be lost when a slice is resized."""
    return np.array([store.labels[row].any() for row in rows], dtype=bool)
