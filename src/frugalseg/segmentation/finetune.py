"""`frugalseg finetune`: train a segmentation model from a few labels, and optionally from unlabelled scans.

Self-training is a sequence of trainings, each with its own run folder: `rounds/0` learns from the labels only, each
later one also from the pseudo-labels of the one before. The last one is the run itself.
"""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from frugalseg._version import __version__
from frugalseg.dataset.augment import Strength
from frugalseg.dataset.budget import Budget, draw_labels
from frugalseg.dataset.copies import make_copies
from frugalseg.dataset.slice_choice import find_rule
from frugalseg.dataset.source import JoinedRows, RowArray, SliceCopies, SliceSource
from frugalseg.dataset.store import SliceStore
from frugalseg.engine.device import make_fabric
from frugalseg.engine.files import check_out, sha256
from frugalseg.engine.loop import BestStep, load_best
from frugalseg.engine.processes import check_batch_norm
from frugalseg.engine.progress import say
from frugalseg.engine.run import RunFolder
from frugalseg.engine.task import TrainingPlan
from frugalseg.engine.training import train_and_save
from frugalseg.errors import OptionError
from frugalseg.features.pretrained import is_run
from frugalseg.models.blocks import MaskNetwork
from frugalseg.models.saved import WEIGHTS, read_network_record, save_model
from frugalseg.options import FinetuneOptions, Keep
from frugalseg.records.networks import EncoderRecord, PublishedWeights, SegmenterAnnotation, SegmenterRecord
from frugalseg.records.split import Split
from frugalseg.segmentation.architecture import Architecture, NetworkShape, find_architecture, find_plugin
from frugalseg.segmentation.calibrate import calibrate_model
from frugalseg.segmentation.earlier_model import EarlierModel
from frugalseg.segmentation.label_checks import LabelDraw, check_propagation
from frugalseg.segmentation.labels import (
    frequency_logits,
    keep_everything,
    make_annotation_use,
    open_labelled,
    report_kept,
    validation_rows,
)
from frugalseg.segmentation.model import load_network
from frugalseg.segmentation.organ_dice import read_figures, select_organ_dice, warn_of_unlearned
from frugalseg.segmentation.presets import Preset, resolve_preset
from frugalseg.segmentation.propagated import MaskPropagator, find_propagated, override, propagate_outlines
from frugalseg.segmentation.pseudo import MaskRefiner, UnlabelledSlices, make_pseudo_labels
from frugalseg.segmentation.record import check_encoder, scan_roles
from frugalseg.segmentation.task import FinetuneTask, FinetuneTrainingSet
from frugalseg.text import pluralize

if TYPE_CHECKING:
    from lightning_fabric import Fabric


FEATURES_FOLDER = "features"
"""Subfolder of the store for cached features, without --cache."""
COPY_STRENGTH: Strength = "robust"
"""How much copies of slices are changed (see `dataset.augment`)."""


PROPAGATED_FOLDER = "propagated"
"""In the run folder: the slices that the propagation of outlined slices has reached."""


@dataclass(frozen=True)
class FineTuning:
    """A fine-tuning with what its rounds share; `engine.training.run_training` runs it.

    Attributes:
        options: of the command; `--preset best` without unlabelled slices becomes `robust`.
        labelled: rows whose masks may be used.
        copies: (labelled, n) rows of changed copies of these in the source, or None.
        unlabelled: the other rows of the training patients.
        to_propagate: those of them to which outlined slices are propagated; empty without `options.propagate`.
        architecture: that of the encoder, or that of the options.
        encoder: model.json of the pre-training run, whose encoder is trained further or stays as it is; or None.
        start: the trained model to start from, or None.
        teacher: the trained model that makes the pseudo-labels, or None for those of this training's own rounds.
        refiner: refines pseudo-labels; required where `options.refine` is given.
        propagator: propagates outlined slices; required where `options.propagate` is given.
    """

    options: FinetuneOptions
    preset: Preset
    store: SliceStore
    split: Split
    source: SliceSource
    labelled: npt.NDArray[np.int64]
    copies: npt.NDArray[np.int64] | None
    unlabelled: npt.NDArray[np.int64]
    to_propagate: npt.NDArray[np.int64]
    architecture: Architecture
    encoder: EncoderRecord | None
    start: EarlierModel | None
    teacher: EarlierModel | None
    fabric: Fabric
    refiner: MaskRefiner | None = None
    propagator: MaskPropagator | None = None
    command: str = "finetune"

    @classmethod
    def open(cls, options: FinetuneOptions) -> FineTuning:
        """Open and check all inputs.

        Raises:
            StoreError, SplitError, RunError, DeviceError, OptionError: as their docstrings say; SplitError also if no
                labelled slice shows an organ.
        """
        check_out(options.out)
        store, budget, split = open_labelled(options)
        if options.folds is not None and options.fold is not None:
            split = store.fold(split, options.folds, options.fold)
        check_propagation(options.propagate, budget.unit)
        encoder = _read_encoder(options)
        fabric = make_fabric(options.device, options.precision)
        architecture = find_architecture(
            encoder.backbone if encoder else options.backbone, fabric.device, options.precision
        )
        frozen = architecture.frozen_encoder
        if frozen is not None and is_run(frozen.model):
            encoder = read_network_record(EncoderRecord, Path(frozen.model))
        check_encoder(encoder, store, split, options.transductive)
        start, teacher = (
            EarlierModel.open(run, option, store, split, options.transductive) if run else None
            for run, option in ((options.init, "--init"), (options.teacher, "--teacher"))
        )
        if start is not None:
            start.check_architecture(architecture)
        preset = _choose_preset(options, encoder, architecture)
        usable = store.slices[store.is_middle(options.middle_fraction)]
        rule = find_rule(options.choose, budget.unit, store)
        labelled = draw_labels(usable, split.train, budget, options.label_draw, store.presence_columns, rule)
        LabelDraw(store, usable, split.train, budget, options.label_draw, labelled, rule).check_organs()
        others = usable.index[usable["patient"].isin(split.train)].to_numpy(np.int64)
        unlabelled = np.setdiff1d(others, labelled)
        to_propagate = unlabelled[:0] if options.propagate is None else find_propagated(store, labelled, unlabelled)
        if options.preset == "best" and options.semi is None and len(unlabelled) == 0:
            say(
                "--preset best: every slice of the training patients is labelled and used, so there is nothing "
                "unlabelled to learn from; training with --preset robust"
            )
            options = replace(options, preset="robust", rounds=None, refine=None, teacher=None)
            preset = _choose_preset(options, encoder, architecture)
        elif preset.semi != "none" and len(unlabelled) == 0:
            warnings.warn("every training slice is labelled: there is nothing for --semi to use", stacklevel=3)
        trained = np.union1d(labelled, to_propagate) if preset.semi == "none" else others
        copied = architecture.count_copies(options)
        shape = _network_shape(options, preset, architecture, store)
        network, _ = architecture.build_initialized(shape, options)  # raises for weights that do not fit
        check_batch_norm(network, fabric)
        if start is not None:
            start.load_into(network)  # the same
        copies = make_copies(store, labelled, copied, COPY_STRENGTH, preset.context) if copied else None
        rows = np.concatenate([trained, validation_rows(store, split)])
        if teacher is not None:
            teacher.check_size(store)
            teacher.check_context(preset.context)
            teacher.find_architecture(fabric.device, options.precision, None)  # raises for another encoder
        source = _open_source(options, store, architecture, copies, fabric, rows, preset.context)
        copy_rows = None if copies is None else copies.positions(len(store.slices)).reshape(len(labelled), copied)
        rows_used = (labelled, copy_rows, unlabelled, to_propagate)
        training = cls(options, preset, store, split, source, *rows_used, architecture, encoder, start, teacher, fabric)
        return replace(training, options=_resume_rounds(options))

    def identity(self) -> dict[str, str]:
        """Hashes of the store, the split and the encoder."""
        data = self.store.identity(self.split)
        if self.architecture.frozen_encoder is not None:
            data["frozen_encoder"] = self.architecture.frozen_encoder.signature
        if self.options.encoder is not None:
            data["encoder_sha256"] = sha256(self.options.encoder / WEIGHTS)
        if self.start is not None:
            data["init_sha256"] = self.start.weights_sha256
        if self.teacher is not None:
            data["teacher_sha256"] = self.teacher.weights_sha256
        if self.propagator is not None:
            data["propagated_by"] = self.propagator.record.signature
        return data

    @cached_property
    def propagated(self) -> UnlabelledSlices | None:
        """The pseudo-labels propagated from outlined slices; None without any. The first process propagates."""
        if self.propagator is None:
            return None
        with self.fabric.rank_zero_first():
            return propagate_outlines(
                self.store, self.labelled, self.to_propagate, self.propagator, self.options.out / PROPAGATED_FOLDER
            )

    def learn(self, run: RunFolder) -> None:
        """Train, in several rounds for self-training, and save."""
        assert self.options.refine is None or self.refiner is not None, "options.refine needs a refiner"
        assert self.options.propagate is None or self.propagator is not None, "options.propagate needs a propagator"
        teacher = None
        if self.preset.semi == "self-training" and len(self.unlabelled) > 0:
            teacher = self.train_teacher(self.options) if self.teacher is None else self.teacher.run
        self.train(self.options, run, teacher)

    def train_teacher(self, options: FinetuneOptions) -> Path | None:
        """Run all rounds of a self-training but the last; returns the folder of the last of these, or None."""
        teacher: Path | None = None
        rounds = self.preset.rounds
        for n in range(rounds):
            earlier = replace(
                options,
                out=options.out / "rounds" / str(n),
                semi="self-training" if n else "none",
                rounds=n or None,
                refine=options.refine if n else None,
                resume="auto",
            )
            say(f"round {n} of {rounds}: {self._describe_labels(teacher)}")
            with RunFolder.claim(self.command, earlier, self.fabric, self.identity()) as stage:
                if not stage.finished:
                    self.train(earlier, stage, teacher)
            teacher = stage.path
        say(f"round {rounds} of {rounds}: the final model")
        return teacher

    def _describe_labels(self, teacher: Path | None) -> str:
        if teacher is not None:
            return "with pseudo-labels"
        return "labels only" if self.propagator is None else "labels and propagated labels"

    def train(self, options: FinetuneOptions, run: RunFolder, teacher: Path | None) -> None:
        """One training, from the labels and the pseudo-labels of the run `teacher`."""
        preset = _choose_preset(options, self.encoder, self.architecture)
        training = FinetuneTrainingSet(self.labelled, self._label_unlabelled(options, preset, teacher), self.copies)
        torch.manual_seed(options.seed)
        network, published = self.build_network(options)
        task = FinetuneTask(options, preset, network, self.store, self.split, self.source, training)
        scans = int(self.store.slices.loc[self.labelled, "case"].nunique())
        unlabelled = 0 if training.unlabelled is None else len(training.unlabelled.rows)
        others = f" and {pluralize(unlabelled, 'unlabelled one')}" if unlabelled else ""
        say(
            f"fine-tuning on {pluralize(len(self.labelled), 'labelled slice')} of {pluralize(scans, 'scan')} "
            f"({Budget.parse(options.budget).in_words}, draw {options.label_draw}){others}: "
            f"{pluralize(task.steps, 'step')} of {pluralize(options.batch_size, 'slice')}"
        )
        plan = TrainingPlan(task.steps, task.interval, options.seed, preset.clip, options.checkpoint_minutes)
        train_and_save(task, plan, self.fabric, run, lambda: self._save(run, options, task, published))

    def build_network(self, options: FinetuneOptions) -> tuple[MaskNetwork, PublishedWeights | None]:
        """The initial network, and the record of published weights if it has any.

        Raises:
            RunError, OptionError: an encoder or published weights that do not fit the network.
        """
        shape = _network_shape(options, self.preset, self.architecture, self.store)
        network, published = self.architecture.build_initialized(shape, options)
        if self.start is not None:
            self.start.load_into(network)
        elif self.preset.first_logit == "frequency":
            network.start_from_logits(frequency_logits(self.store, self.labelled))
        return network, published

    def _label_unlabelled(
        self, options: FinetuneOptions, preset: Preset, teacher: Path | None
    ) -> UnlabelledSlices | None:
        propagated = self.propagated
        if preset.semi == "none" or len(self.unlabelled) == 0:
            return propagated
        others = UnlabelledSlices(self.unlabelled) if teacher is None else self._predict_unlabelled(options, teacher)
        return others if propagated is None else override(others, propagated, options.out)

    def _predict_unlabelled(self, options: FinetuneOptions, teacher: Path) -> UnlabelledSlices:
        """The pseudo-labels of a trained model."""
        record = read_network_record(SegmenterRecord, teacher)
        architecture = self.architecture
        if self.teacher is not None:
            cache = options.cache or self.store.folder / FEATURES_FOLDER
            architecture = self.teacher.find_architecture(self.fabric.device, options.precision, cache)
        model = load_network(teacher, record, architecture)
        keep = [record.keep[organ] for organ in record.targets]
        refined = "" if self.refiner is None else f", refined by {options.refine}"
        say(f"labelling {pluralize(len(self.unlabelled), 'slice')} with {teacher}{refined}")
        labels = make_pseudo_labels(
            *(model, self.store, self.source, self.unlabelled, self.labelled),
            *(keep, options.precision, options.out, self.refiner),
        )
        assert labels.unknown is not None
        unlearned = labels.unknown.all(dim=0).tolist()
        if names := [organ for organ, missing in zip(record.targets, unlearned, strict=True) if missing]:
            say(f"the pseudo-labels say nothing about {', '.join(names)}: the model has not learned to find it yet")
        return labels

    def _save(
        self, run: RunFolder, options: FinetuneOptions, task: FinetuneTask, published: PublishedWeights | None
    ) -> None:
        """Save the best model with its record."""
        best = load_best(run, task, task.steps)
        task.evaluated_model.eval()
        if best.score is None:
            keep = keep_everything(self.store.targets)
        else:
            keep = task.validation.choose_keep(task.evaluated_model, task.preset.keep)
            if len(task.preset.keep) > 1:
                report_kept(keep)
        dice = select_organ_dice(read_figures(run, best.step), self.store.targets)
        save_model(run.path, task.evaluated_model, self._record(options, task, published, keep, best, dice))
        warn_of_unlearned(dice)

    def _record(
        self,
        options: FinetuneOptions,
        task: FinetuneTask,
        published: PublishedWeights | None,
        keep: dict[str, Keep],
        best: BestStep,
        dice: dict[str, float],
    ) -> SegmenterRecord:
        """The record of the model, for prediction and evaluation."""
        unlabelled = self.unlabelled[:0] if task.training.unlabelled is None else task.training.unlabelled.rows
        propagated = self.unlabelled[:0] if self.propagated is None else self.propagated.rows
        refined = options.refine is not None and len(unlabelled) > 0
        unseen = set(self.store.slices.loc[unlabelled, "case"])
        seen = set(self.encoder.fingerprints if self.encoder else ()) | self.store.fingerprints_of_cases(unseen)
        used = set(self.store.slices.loc[self.labelled, "case"])
        scans = scan_roles(self.store, self.split, used, seen)
        for earlier in filter(None, (self.start, self.teacher)):
            scans = earlier.add_roles(scans)
        return SegmenterRecord(
            version=__version__,
            backbone=self.architecture.backbone,
            plugin=find_plugin(self.architecture.backbone),
            frozen_encoder=self.architecture.frozen_encoder,
            initial_model=None if self.start is None else self.start.record,
            teacher=None if self.teacher is None else self.teacher.record,
            norm=self.architecture.choose_norm(options.norm, task.preset.norm),
            context=task.preset.context,
            published_weights=published or (self.encoder.published_weights if self.encoder else None),
            parameters=sum(p.numel() for p in task.evaluated_model.parameters()),
            targets=self.store.targets,
            preprocessing=self.store.preprocessing,
            keep=keep,
            step=best.step,
            validation_dice=best.score,
            validation_dice_of_organs=dice,
            calibration=calibrate_model(
                task.validation, task.evaluated_model, keep, self.refiner if options.refine else None
            ),
            pseudo_labels_refined_by=self.refiner.record if self.refiner and refined else None,
            outlines_propagated_by=self.propagator.record if self.propagator and len(propagated) else None,
            annotation=SegmenterAnnotation(
                **asdict(make_annotation_use(options, self.store, self.labelled, task.validation.cases)),
                choose=options.choose,
                unlabelled_slices=len(unlabelled),
                unlabelled_scans=len(unseen),
                propagated_slices=len(propagated),
                propagated_scans=int(self.store.slices.loc[propagated, "case"].nunique()),
                pretraining=self.encoder.annotation if self.encoder else None,
            ),
            scans=scans,
        )


def _read_encoder(options: FinetuneOptions) -> EncoderRecord | None:
    """The pre-training of --encoder; None without one.

    Raises:
        RunError: it is not finished, or damaged.
        OptionError: --backbone names another network.
    """
    if options.encoder is None:
        return None
    encoder = read_network_record(EncoderRecord, options.encoder)
    if options.backbone not in (FinetuneOptions.backbone, encoder.backbone):
        raise OptionError(
            f"--backbone {options.backbone}: the encoder is one of {encoder.backbone}", "leave out --backbone"
        )
    return encoder


def _choose_preset(options: FinetuneOptions, encoder: EncoderRecord | None, architecture: Architecture) -> Preset:
    trained_further = encoder is not None and options.encoder is not None
    return architecture.adapt(resolve_preset(options, encoder.context if encoder and trained_further else None))


def _network_shape(
    options: FinetuneOptions, preset: Preset, architecture: Architecture, store: SliceStore
) -> NetworkShape:
    norm = architecture.choose_norm(options.norm, preset.norm)
    return NetworkShape(len(store.targets), norm, preset.dropout, preset.context, store.size)


def _open_source(
    options: FinetuneOptions,
    store: SliceStore,
    architecture: Architecture,
    copies: SliceCopies | None,
    fabric: Fabric,
    rows: npt.NDArray[np.int64],
    context: int,
) -> SliceSource:
    """The slices of these rows with labels, the copies, and the features of all of them, if needed."""
    needed = store.neighbour_rows(context)[rows].ravel()
    images: RowArray = store.images
    if copies is not None:
        stored = len(store.slices)
        rows = np.concatenate([rows, copies.positions(stored)])
        needed = np.concatenate([needed, stored + np.arange(len(copies.images))])
        images = JoinedRows(images, copies.images)
    features = architecture.open_features(images, options.cache or store.folder / FEATURES_FOLDER)
    if features is not None:
        if fabric.is_global_zero:
            features.fill(needed)
        fabric.barrier()
    return SliceSource(
        store, fabric.device, with_labels=True, rows=rows, context=context, features=features, copies=copies
    )


def _resume_rounds(options: FinetuneOptions) -> FinetuneOptions:
    """Options to resume a run that was stopped in an early round, or while propagating: it has no checkpoint yet."""
    begun = options.resume == "yes" and any((options.out / name).is_dir() for name in ("rounds", PROPAGATED_FOLDER))
    return replace(options, resume="auto") if begun else options
