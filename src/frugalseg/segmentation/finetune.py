"""`frugalseg finetune`: train a segmentation model from a few labels, and from unlabelled scans too where asked.

Self-training is several trainings in a row, each a run folder of its own: `rounds/0` learns from the labels alone,
and every later one also from what the one before it makes of the unlabelled slices. The last one is the run itself.
"""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from frugalseg._version import __version__
from frugalseg.dataset.budget import Budget, draw_labels
from frugalseg.dataset.source import SliceSource
from frugalseg.dataset.store import SliceStore
from frugalseg.engine.device import make_fabric
from frugalseg.engine.files import check_out, sha256
from frugalseg.engine.loop import Best, Plan, load_best
from frugalseg.engine.progress import say
from frugalseg.engine.run import RunFolder
from frugalseg.engine.training import train_and_save
from frugalseg.errors import OptionError
from frugalseg.models.blocks import Segmenter
from frugalseg.models.pretrained_weights import load_published
from frugalseg.models.registry import build_segmenter, choose_norm, inputs_of
from frugalseg.models.saved import WEIGHTS, load_encoder, read_network, save_model
from frugalseg.options import FinetuneOptions, Keep
from frugalseg.records.model import EncoderRecord, PublishedWeights, SegmenterAnnotation, SegmenterRecord
from frugalseg.records.split import Split
from frugalseg.segmentation.labels import masks_used, nothing_chosen, open_labelled, tell_kept, validation_rows
from frugalseg.segmentation.model import load_segmenter
from frugalseg.segmentation.presets import Preset, chosen_preset
from frugalseg.segmentation.pseudo import MaskRefiner, Unlabelled, pseudo_label
from frugalseg.segmentation.record import check_encoder, scan_roles
from frugalseg.segmentation.task import FinetuneTask, TrainingSet
from frugalseg.text import pluralize

if TYPE_CHECKING:
    from lightning.fabric import Fabric


@dataclass(frozen=True)
class FineTuning:
    """A fine-tuning with everything that its rounds share; `engine.training.run_training` carries it out.

    Attributes:
        options: what was asked for; without self-training where there is nothing unlabelled for a preset's.
        labelled: rows whose masks may be used.
        unlabelled: the other rows of the training patients.
        backbone: the encoder's, or the one asked for.
        encoder: model.json of the pre-training run, or None.
        refiner: refines pseudo-labels; needed where the options ask for it.
    """

    options: FinetuneOptions
    preset: Preset
    store: SliceStore
    split: Split
    source: SliceSource
    labelled: npt.NDArray[np.int64]
    unlabelled: npt.NDArray[np.int64]
    backbone: str
    encoder: EncoderRecord | None
    fabric: Fabric
    refiner: MaskRefiner | None = None
    command: str = "finetune"

    @classmethod
    def open(cls, options: FinetuneOptions) -> FineTuning:
        """Open and check everything that is given.

        Raises:
            StoreError, SplitError, RunError, DeviceError, OptionError: as their docstrings say.
        """
        check_out(options.out)
        store, budget, split = open_labelled(options)
        encoder = read_network(EncoderRecord, options.encoder) if options.encoder else None
        check_encoder(encoder, store, split, options.transductive)
        if encoder and options.backbone not in (FinetuneOptions.backbone, encoder.backbone):
            raise OptionError(
                f"--backbone {options.backbone}: the encoder is one of {encoder.backbone}", "leave out --backbone"
            )
        fabric = make_fabric(options.device, options.precision)
        preset = chosen_preset(options, encoder.context if encoder else None)
        usable = store.slices[store.middle(options.middle_fraction)]
        labelled = draw_labels(usable, split.train, budget, options.label_draw, store.presence_columns)
        others = usable.index[usable["patient"].isin(split.train)].to_numpy(np.int64)
        unlabelled = np.setdiff1d(others, labelled)
        if options.preset == "best" and options.semi is None and len(unlabelled) == 0:
            say(
                "--preset best: every slice of the training patients is labelled and used, so there is nothing "
                "unlabelled to learn from; this is trained as --preset robust"
            )
            options = replace(options, preset="robust", rounds=None, refine=None)
            preset = chosen_preset(options, encoder.context if encoder else None)
        elif preset.semi != "none" and len(unlabelled) == 0:
            warnings.warn("every training slice is labelled: there is nothing for --semi to use", stacklevel=3)
        trained = labelled if preset.semi == "none" else others
        rows = np.concatenate([trained, validation_rows(store, split)])
        source = SliceSource(store, fabric.device, with_labels=True, rows=rows, context=preset.context)
        backbone = encoder.backbone if encoder else options.backbone
        training = cls(options, preset, store, split, source, labelled, unlabelled, backbone, encoder, fabric)
        training.start_network(options)  # weights that do not fit are told before the folder is taken
        return replace(training, options=_resumable(options))

    def identity(self) -> dict[str, str]:
        """Hashes of the store, the split and the encoder."""
        data = self.store.identity(self.split)
        if self.options.encoder is not None:
            data["encoder_sha256"] = sha256(self.options.encoder / WEIGHTS)
        return data

    def learn(self, run: RunFolder) -> None:
        """Train, in several rounds where a model teaches the next, and save."""
        assert self.options.refine is None or self.refiner is not None, "pseudo-labels are to be refined"
        rounds = self.preset.semi == "self-training" and len(self.unlabelled) > 0
        self.train(self.options, run, self.train_teacher(self.options) if rounds else None)

    def train_teacher(self, options: FinetuneOptions) -> RunFolder | None:
        """The rounds of a self-training before the last, each taught by the one before; returns the last of them."""
        teacher: RunFolder | None = None
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
            say(f"round {n} of {rounds}: {'the labels alone' if teacher is None else 'with pseudo-labels'}")
            with RunFolder.claim(self.command, earlier, self.fabric, self.identity()) as stage:
                if not stage.finished:
                    self.train(earlier, stage, teacher)
            teacher = stage
        say(f"round {rounds} of {rounds}: the model to keep")
        return teacher

    def train(self, options: FinetuneOptions, run: RunFolder, teacher: RunFolder | None) -> None:
        """One training, from the labels and what `teacher` makes of the rest."""
        preset = chosen_preset(options, self.encoder.context if self.encoder else None)
        training = TrainingSet(self.labelled, self._unlabelled(options, preset, teacher))
        torch.manual_seed(options.seed)
        network, published = self.start_network(options)
        task = FinetuneTask(options, preset, network, self.store, self.split, self.source, training)
        scans = int(self.store.slices.loc[self.labelled, "case"].nunique())
        beside = f" and {pluralize(len(self.unlabelled), 'unlabelled one')}" if training.unlabelled is not None else ""
        say(
            f"fine-tuning on {pluralize(len(self.labelled), 'labelled slice')} of {pluralize(scans, 'scan')} "
            f"({Budget.parse(options.budget).in_words}, draw {options.label_draw}){beside}: "
            f"{pluralize(task.steps, 'step')} of {pluralize(options.batch_size, 'slice')}"
        )
        plan = Plan(task.steps, task.interval, options.seed, preset.clip, options.checkpoint_minutes)
        train_and_save(task, plan, self.fabric, run, lambda: self._save(run, options, task, published))

    def start_network(self, options: FinetuneOptions) -> tuple[Segmenter, PublishedWeights | None]:
        """The network to start from, and where published weights came from.

        Raises:
            RunError, OptionError: an encoder or published weights that do not fit the network.
        """
        preset = chosen_preset(options, self.encoder.context if self.encoder else None)
        norm = choose_norm(self.backbone, options.norm, preset.norm)
        classes, inputs = len(self.store.targets), inputs_of(preset.context)
        network = build_segmenter(
            self.backbone, classes, norm, preset.dropout, inputs=inputs, device=self.fabric.device
        )
        if preset.first_logit is not None:
            network.start_from_logit(preset.first_logit)
        if options.encoder is not None:
            load_encoder(network.encoder, options.encoder)
        if options.weights is not None:
            return network, load_published(network.encoder, self.backbone, options.weights)
        return network, None

    def _unlabelled(self, options: FinetuneOptions, preset: Preset, teacher: RunFolder | None) -> Unlabelled | None:
        if preset.semi == "none" or len(self.unlabelled) == 0:
            return None
        if teacher is None:
            return Unlabelled(self.unlabelled)
        record = read_network(SegmenterRecord, teacher.path)
        model = load_segmenter(teacher.path, record, self.source.device)
        keep = [record.keep[organ] for organ in record.targets]
        anew = "" if self.refiner is None else f", refined by {options.refine}"
        say(f"labelling {pluralize(len(self.unlabelled), 'slice')} with {teacher.path}{anew}")
        return pseudo_label(
            *(model, self.store, self.source, self.unlabelled, keep, options.precision, options.out, self.refiner)
        )

    def _save(
        self, run: RunFolder, options: FinetuneOptions, task: FinetuneTask, published: PublishedWeights | None
    ) -> None:
        """Write the best model, and with it what predicting and judging it needs to know."""
        best = load_best(run, task, task.steps)
        task.judged.eval()
        if best.score is None:
            keep = nothing_chosen(self.store.targets)
        else:
            keep = task.validation.worth_keeping(task.judged, task.preset.keep)
            if len(task.preset.keep) > 1:
                tell_kept(keep)
        save_model(run.path, task.judged, self._record(options, task, published, keep, best))

    def _record(
        self,
        options: FinetuneOptions,
        task: FinetuneTask,
        published: PublishedWeights | None,
        keep: dict[str, Keep],
        best: Best,
    ) -> SegmenterRecord:
        """What predicting with the model and judging it needs to know."""
        semi = task.training.unlabelled is not None
        unseen = set(self.store.slices.loc[self.unlabelled, "case"]) if semi else set()
        seen = set(self.encoder.fingerprints if self.encoder else ()) | self.store.fingerprints_of(unseen)
        used = set(self.store.slices.loc[self.labelled, "case"])
        return SegmenterRecord(
            version=__version__,
            backbone=self.backbone,
            norm=choose_norm(self.backbone, options.norm, task.preset.norm),
            context=task.preset.context,
            published_weights=published or (self.encoder.published_weights if self.encoder else None),
            parameters=sum(p.numel() for p in task.judged.parameters()),
            targets=self.store.targets,
            preprocessing=self.store.preprocessing,
            keep=keep,
            step=best.step,
            validation_dice=best.score,
            pseudo_labels_refined_by=self.refiner.record if self.refiner and semi else None,
            annotation=SegmenterAnnotation(
                **asdict(masks_used(options, self.store, self.labelled, task.validation.cases)),
                unlabelled_slices=len(self.unlabelled) if semi else 0,
                unlabelled_scans=len(unseen),
                pretraining=self.encoder.annotation if self.encoder else None,
            ),
            scans=scan_roles(self.store, self.split, used, seen),
        )


def _resumable(options: FinetuneOptions) -> FinetuneOptions:
    """A self-training stopped in an early round has a checkpoint there, and none of its own to be resumed from."""
    begun = options.resume == "yes" and (options.out / "rounds").is_dir()
    return replace(options, resume="auto") if begun else options
