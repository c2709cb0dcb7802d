"""`frugalseg sam-mix train`: a classifier from image-level labels, a SAM from a few masks."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from frugalseg._version import __version__
from frugalseg.dataset.budget import Budget, draw_labels
from frugalseg.dataset.source import SliceSource
from frugalseg.dataset.splits import Split
from frugalseg.dataset.store import SliceStore, presence_column
from frugalseg.engine.device import autocast, make_fabric
from frugalseg.engine.files import check_out
from frugalseg.engine.loop import Plan, load_best, train
from frugalseg.engine.progress import say
from frugalseg.engine.run import RunFolder
from frugalseg.engine.threads import with_threads
from frugalseg.errors import OptionError, SplitError
from frugalseg.options import Keep, SamMixTrainOptions
from frugalseg.promptable.load import lasting_name
from frugalseg.sam_mix.branch import trained_parts
from frugalseg.sam_mix.checkpoint import build, save_mix
from frugalseg.sam_mix.classifier import balanced_alpha
from frugalseg.sam_mix.features import Features
from frugalseg.sam_mix.model import MixModel
from frugalseg.sam_mix.predict_options import KIND
from frugalseg.sam_mix.task import MixTask, TrainingSet
from frugalseg.segmentation.record import scan_roles
from frugalseg.text import counted

if TYPE_CHECKING:
    from lightning.fabric import Fabric

KEEP: tuple[Keep, ...] = ("all", "largest", "core")


@with_threads
def sam_mix_train(options: SamMixTrainOptions) -> RunFolder:
    """Train both branches and leave them in `options.out`.

    Raises:
        StoreError, SplitError, RunError, DeviceError, OptionError: as their docstrings say, before any training.
        InterruptedRunError: stopped by the person; resumable.
    """
    options = replace(options, base=lasting_name(options.base))
    check_out(options.out)
    work = _Work.prepare(options)
    torch.manual_seed(options.seed)
    # A base model that does not fit is reported before the folder is taken.
    model = build(work.settings(options), options.base, work.fabric.device)
    with RunFolder.claim("sam-mix train", options, work.fabric, work.identity(model)) as run:
        if run.finished:
            say(f"{run.path} is finished")
        else:
            _train(options, work, model, run)
        return run


def _train(options: SamMixTrainOptions, work: _Work, model: MixModel, run: RunFolder) -> None:
    brought = {name: value.clone() for name, value in model.branch.state_dict().items()}
    features = work.features(options, model, run) if options.adapt == "decoder" else None
    task = MixTask(options, model, work.store, work.split, work.source, work.training, features)
    told = trained_parts(model.branch)
    say(
        f"SAM-Mix on {counted(len(work.training.taught), 'slice')} with image-level labels and "
        f"{counted(len(work.training.labelled), 'mask')} ({Budget.parse(options.budget).in_words}, "
        f"draw {options.label_draw}); {model.branch.name}, trained: "
        + ", ".join(f"{part} {count:,}" for part, count in told.items())
        + f"; {counted(task.steps, 'step')}"
    )
    plan = Plan(task.steps, task.interval, options.seed, None, options.checkpoint_minutes)
    train(task, plan, work.fabric, run)
    _save(run, options, work, task, brought)


@dataclass(frozen=True)
class _Work:
    """What is given, opened and checked."""

    store: SliceStore
    split: Split
    source: SliceSource
    training: TrainingSet
    fabric: Fabric

    @classmethod
    def prepare(cls, options: SamMixTrainOptions) -> _Work:
        store = SliceStore.open(options.data)
        if not store.targets:
            raise OptionError(f"{store.folder} has no labels", "prepare it again with --labels and --target")
        budget = Budget.parse(options.budget)
        split = store.split(options.split)
        fabric = make_fabric(options.device, options.precision)
        if fabric.world_size > 1:
            raise OptionError("SAM-Mix trains in one process", "start it without torchrun")
        training = training_set(store, split, options, budget)
        validation = store.slices.index[store.slices["patient"].isin(split.validation)].to_numpy(np.int64)
        rows = np.concatenate([training.taught, training.labelled, validation])
        source = SliceSource(store, fabric.device, with_labels=True, rows=rows)
        return cls(store, split, source, training, fabric)

    def settings(self, options: SamMixTrainOptions) -> dict[str, Any]:
        """What `record.build` needs to build the model again."""
        return {
            "adapt": options.adapt,
            "rank": options.lora_rank,
            "dense": options.dense_prompt,
            "threshold": options.map_threshold,
            "classifier_size": options.classifier_size,
            "organs": len(self.store.targets),
            "size": self.store.size,
        }

    def identity(self, model: MixModel) -> dict[str, str]:
        """What a resumed run must have in common with the interrupted one."""
        return {**self.store.identity(self.split), "base": model.branch.signature}

    def features(self, options: SamMixTrainOptions, model: MixModel, run: RunFolder) -> Features:
        """The frozen encoder's maps, computed when first needed."""

        @torch.inference_mode()
        def encode(row: int) -> Tensor:
            with autocast(options.precision, self.fabric.device):
                return model.encode(self.source.gather(torch.tensor([row])).images)[0]

        return Features(encode, len(self.store.slices), run.path)


def training_set(store: SliceStore, split: Split, options: SamMixTrainOptions, budget: Budget) -> TrainingSet:
    """The slices of the training patients that have image-level labels, and of these the masks of the budget.

    Raises:
        SplitError: the budget asks for more than there is, or all slices show an organ, or none does.
    """
    usable = store.slices[store.middle(options.middle_fraction)]
    labelled = draw_labels(usable, split.train, budget, options.label_draw, store.presence_columns)
    shows_something = store.slices.loc[labelled, store.presence_columns].any(axis=1).to_numpy()
    labelled = labelled[shows_something]  # a scan's empty slices have no mask to learn from
    taught = usable[usable["labelled"] & usable["patient"].isin(split.train)]
    alpha = []
    for organ in store.targets:
        column = taught[presence_column(organ)]
        if column.all() or not column.any():
            which = "all" if column.all() else "none"
            raise SplitError(
                f"{which} of the {len(taught)} training slices {'show' if which == 'all' else 'shows'} {organ}: "
                "a classifier needs slices with and without it",
                "train on whole scans (--middle-fraction 1), or on scans that reach beyond the organ"
                if which == "all"
                else "check --target of the store, or put patients with the organ into the training part",
            )
        if not store.slices.loc[labelled, presence_column(organ)].any():
            warnings.warn(
                f"no mask of the budget shows {organ}: the SAM branch learns it from other organs alone", stacklevel=2
            )
        share = float(column.mean())
        alpha.append(balanced_alpha(share) if options.focal_alpha is None else options.focal_alpha)
    return TrainingSet(taught.index.to_numpy(np.int64), labelled, tuple(alpha))


def _save(
    run: RunFolder, options: SamMixTrainOptions, work: _Work, task: MixTask, brought: Mapping[str, Tensor]
) -> None:
    """Write the best model, as near to the base as validation patients want it, and with it what predicting and judging
    it needs to know."""
    best = load_best(run, task, task.steps)
    task.mix.eval()
    store, training = work.store, work.training
    chosen = math.isfinite(best["best"])
    way, dice = 1.0, None
    if chosen:
        way, dice = task.validation.go_back(task.mix, brought, best["best"])
        say(f"from the base's weights to the learned ones: {way:.0%} of the way")
        keep = task.validation.worth_keeping(task.mix, KEEP)
        say("keeping of each mask: " + ", ".join(f"{organ} {kept}" for organ, kept in keep.items()))
    else:
        keep = dict.fromkeys(store.targets, "all")
        warnings.warn(
            "no validation patient has labels of a target: the last step's model is kept, and nothing was chosen",
            stacklevel=2,
        )
    used, seen = store.slices.loc[training.labelled], set(store.slices.loc[training.taught, "case"])
    spec = {
        "kind": KIND,
        "version": __version__,
        "base": {"given": options.base, "name": task.mix.branch.name, "signature": task.mix.branch.signature},
        "settings": work.settings(options),
        "trained": {
            "classifier": sum(p.numel() for p in task.mix.classifier.parameters()),
            **trained_parts(task.mix.branch),
        },
        "parameters": sum(p.numel() for p in task.mix.parameters()),
        "targets": store.meta["parameters"]["targets"],
        "preprocessing": store.preprocessing,
        "keep": keep,
        "way_from_base": way,
        "share_of_map": None if task.mix.branch.share is None else float(task.mix.branch.share.detach()),
        "step": best["step"],
        "validation_dice": dice,
        "focal": {"alpha": dict(zip(store.targets, training.alpha, strict=True)), "gamma": options.focal_gamma},
        "annotation": {
            "budget": options.budget,
            "draw": options.label_draw,
            "masks": len(used),
            "mask_scans": int(used["case"].nunique()),
            "organ_present_labels": len(training.taught),
            "organ_present_scans": len(seen),
            "validation_scans": len(task.validation.cases),
            "validation_masks": sum(len(rows) for rows in task.validation.cases.values()),
        },
        "scans": scan_roles(store, work.split, set(used["case"]), _fingerprints(store, seen)),
    }
    save_mix(run.path, task.mix, spec)


def _fingerprints(store: SliceStore, cases: set[str]) -> set[str]:
    return {scan["fingerprint"] for scan in store.meta["scans"] if scan["case"] in cases}
