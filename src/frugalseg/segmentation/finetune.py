"""`frugalseg finetune`: train a segmentation model from a few labels, and from unlabelled scans too where asked.

Self-training is several trainings in a row, each a run folder of its own: `rounds/0` learns from the labels alone,
and every later one also from what the one before it makes of the unlabelled slices. The last one is the run itself.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from frugalseg._version import __version__
from frugalseg.dataset.budget import Budget, draw_labels
from frugalseg.dataset.source import SliceSource
from frugalseg.dataset.splits import Split
from frugalseg.dataset.store import SliceStore
from frugalseg.engine.device import make_fabric
from frugalseg.engine.files import check_out, sha256
from frugalseg.engine.loop import Plan, load_best, train
from frugalseg.engine.progress import say
from frugalseg.engine.run import RunFolder
from frugalseg.errors import OptionError
from frugalseg.models.blocks import Segmenter
from frugalseg.models.pretrained_weights import load_published
from frugalseg.models.registry import build_segmenter, choose_norm, inputs_of
from frugalseg.models.saved import WEIGHTS, load_encoder, load_spec, save_model
from frugalseg.options import FinetuneOptions
from frugalseg.segmentation.model import load_segmenter
from frugalseg.segmentation.presets import Preset, chosen_preset
from frugalseg.segmentation.pseudo import Redraw, Unlabelled, pseudo_label
from frugalseg.segmentation.record import check_encoder, scan_roles
from frugalseg.segmentation.task import FinetuneTask, TrainingSet
from frugalseg.text import counted

if TYPE_CHECKING:
    from lightning.fabric import Fabric


def finetune(
    options: FinetuneOptions, make_redraw: Callable[[SliceStore, torch.device], Redraw] | None = None
) -> RunFolder:
    """Train a segmentation model and leave it in `options.out`.

    Args:
        options: of the training. Of `refine` this package only knows whether it was given.
        make_redraw: store and device → what refines pseudo-labels; needed with `refine`.

    Raises:
        StoreError, SplitError, RunError, DeviceError, OptionError: as their docstrings say, before any training.
        InterruptedRunError: stopped by the person; resumable.
    """
    if options.refine is not None and make_redraw is None:
        raise ValueError("sam.finetune.finetune refines pseudo-labels")
    check_out(options.out)
    work = _Work.prepare(options)
    options = work.options
    if make_redraw is not None and options.refine is not None:
        work = replace(work, redraw=make_redraw(work.store, work.fabric.device))
    work.start_network(options)  # weights that do not fit are reported before the folder is taken
    with work.claim(_resumable(options)) as run:
        if run.finished:
            say(f"{run.path} is finished")
        elif work.preset.semi == "self-training" and len(work.unlabelled):
            work.train(options, run, work.train_teacher(options))
        else:
            work.train(options, run, None)
    return run


def _resumable(options: FinetuneOptions) -> FinetuneOptions:
    """A self-training stopped in an early round has a checkpoint there, and none of its own to be resumed from."""
    begun = options.resume == "yes" and (options.out / "rounds").is_dir()
    return replace(options, resume="auto") if begun else options


@dataclass(frozen=True)
class _Work:
    """Everything that the rounds of one fine-tuning share.

    Attributes:
        options: what was asked for; without self-training where there is nothing unlabelled for a preset's.
        labelled: rows whose masks may be used.
        unlabelled: the other rows of the training patients.
        backbone: the encoder's, or the one asked for.
        encoder: model.json of the pre-training run, or None.
        redraw: refines pseudo-labels.
    """

    options: FinetuneOptions
    preset: Preset
    store: SliceStore
    split: Split
    source: SliceSource
    labelled: npt.NDArray[np.int64]
    unlabelled: npt.NDArray[np.int64]
    backbone: str
    encoder: dict[str, Any] | None
    fabric: Fabric
    redraw: Redraw | None = None

    @classmethod
    def prepare(cls, options: FinetuneOptions) -> _Work:
        """Open and check everything that is given."""
        store = SliceStore.open(options.data)
        if not store.targets:
            raise OptionError(f"{store.folder} has no labels", "prepare it again with --labels and --target")
        budget = Budget.parse(options.budget)
        split = store.split(options.split)
        encoder = load_spec(options.encoder, "encoder") if options.encoder else None
        check_encoder(encoder, store, split, options.transductive)
        if encoder and options.backbone not in (FinetuneOptions.backbone, encoder["backbone"]):
            raise OptionError(
                f"--backbone {options.backbone}: the encoder is one of {encoder['backbone']}", "leave out --backbone"
            )
        fabric = make_fabric(options.device, options.precision)
        preset = chosen_preset(options, encoder)
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
            preset = chosen_preset(options, encoder)
        elif preset.semi != "none" and len(unlabelled) == 0:
            warnings.warn("every training slice is labelled: there is nothing for --semi to use", stacklevel=3)
        validation = store.slices.index[store.slices["patient"].isin(split.validation)].to_numpy(np.int64)
        trained = labelled if preset.semi == "none" else others
        rows = np.concatenate([trained, validation])
        source = SliceSource(store, fabric.device, with_labels=True, rows=rows, context=preset.context)
        backbone = encoder["backbone"] if encoder else options.backbone
        return cls(options, preset, store, split, source, labelled, unlabelled, backbone, encoder, fabric)

    def claim(self, options: FinetuneOptions) -> RunFolder:
        """The run folder of these options."""
        data = self.store.identity(self.split)
        if options.encoder is not None:
            data["encoder_sha256"] = sha256(options.encoder / WEIGHTS)
        return RunFolder.claim("finetune", options, self.fabric, data)

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
            with self.claim(earlier) as stage:
                if not stage.finished:
                    self.train(earlier, stage, teacher)
            teacher = stage
        say(f"round {rounds} of {rounds}: the model to keep")
        return teacher

    def train(self, options: FinetuneOptions, run: RunFolder, teacher: RunFolder | None) -> None:
        """One training, from the labels and what `teacher` makes of the rest."""
        preset = chosen_preset(options, self.encoder)
        training = TrainingSet(self.labelled, self._unlabelled(options, preset, teacher))
        torch.manual_seed(options.seed)
        network, published = self.start_network(options)
        task = FinetuneTask(options, preset, network, self.store, self.split, self.source, training)
        scans = int(self.store.slices.loc[self.labelled, "case"].nunique())
        beside = f" and {counted(len(self.unlabelled), 'unlabelled one')}" if training.unlabelled is not None else ""
        say(
            f"fine-tuning on {counted(len(self.labelled), 'labelled slice')} of {counted(scans, 'scan')} "
            f"({Budget.parse(options.budget).in_words}, draw {options.label_draw}){beside}: "
            f"{counted(task.steps, 'step')} of {counted(options.batch_size, 'slice')}"
        )
        train(
            task,
            Plan(task.steps, task.interval, options.seed, preset.clip, options.checkpoint_minutes),
            self.fabric,
            run,
        )
        if self.fabric.is_global_zero:
            self._save(run, options, task, published)
        self.fabric.barrier()

    def start_network(self, options: FinetuneOptions) -> tuple[Segmenter, dict[str, Any] | None]:
        """The network to start from, and where published weights came from.

        Raises:
            RunError, OptionError: an encoder or published weights that do not fit the network.
        """
        preset = chosen_preset(options, self.encoder)
        norm = choose_norm(self.backbone, options.norm, preset.norm)
        classes, inputs = len(self.store.targets), inputs_of(preset.context)
        network = build_segmenter(self.backbone, classes, norm, preset.dropout, inputs=inputs)
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
        spec = load_spec(teacher.path, "segmenter")
        model = load_segmenter(teacher.path, spec)
        keep = [spec["keep"][organ] for organ in spec["targets"]]
        anew = "" if self.redraw is None else f", refined by {options.refine}"
        say(f"labelling {counted(len(self.unlabelled), 'slice')} with {teacher.path}{anew}")
        model = model.to(self.source.device)
        return pseudo_label(
            *(model, self.store, self.source, self.unlabelled, keep, options.precision, options.out, self.redraw)
        )

    def _save(
        self, run: RunFolder, options: FinetuneOptions, task: FinetuneTask, published: dict[str, Any] | None
    ) -> None:
        """Write the best model, and with it what predicting and judging it needs to know."""
        best = load_best(run, task, task.steps)
        task.judged.eval()
        chosen = math.isfinite(best["best"])
        if chosen:
            keep = task.validation.worth_keeping(task.judged, task.preset.keep)
            if len(task.preset.keep) > 1:
                say("keeping of each mask: " + ", ".join(f"{organ} {kept}" for organ, kept in keep.items()))
        else:
            keep = dict.fromkeys(self.store.targets, "all")
            warnings.warn(
                "no validation patient has labels of a target: the last step's model is kept, and nothing was chosen",
                stacklevel=2,
            )
        used = self.store.slices.loc[self.labelled]
        semi = task.training.unlabelled is not None
        seen = set(self.encoder["fingerprints"]) if self.encoder else set()
        if semi:
            cases = set(self.store.slices.loc[self.unlabelled, "case"])
            seen |= {scan["fingerprint"] for scan in self.store.meta["scans"] if scan["case"] in cases}
        spec = {
            "kind": "segmenter",
            "version": __version__,
            "backbone": self.backbone,
            "norm": choose_norm(self.backbone, options.norm, task.preset.norm),
            "context": task.preset.context,
            "published_weights": published or (self.encoder or {}).get("published_weights"),
            "parameters": sum(p.numel() for p in task.judged.parameters()),
            "targets": self.store.meta["parameters"]["targets"],
            "preprocessing": self.store.preprocessing,
            "keep": keep,
            "step": best["step"],
            "validation_dice": best["best"] if chosen else None,
            "pseudo_labels_refined_by": self.redraw.to_dict() if self.redraw and semi else None,
            "annotation": {
                "budget": options.budget,
                "draw": options.label_draw,
                "masks": len(used),
                "mask_scans": int(used["case"].nunique()),
                "validation_scans": len(task.validation.cases),
                "validation_masks": sum(len(rows) for rows in task.validation.cases.values()),
                "unlabelled_slices": len(self.unlabelled) if semi else 0,
                "unlabelled_scans": int(self.store.slices.loc[self.unlabelled, "case"].nunique()) if semi else 0,
                "pretraining": self.encoder["annotation"] if self.encoder else None,
            },
            "scans": scan_roles(self.store, self.split, set(used["case"]), seen),
        }
        save_model(run.path, task.judged, spec)
