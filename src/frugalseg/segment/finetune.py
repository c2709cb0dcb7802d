"""`frugalseg finetune`: train a segmentation model from a few labels."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from frugalseg._version import __version__
from frugalseg.dataset.augment import Augment
from frugalseg.dataset.budget import Budget, draw_labels
from frugalseg.dataset.source import Slices, SliceSource, shuffled_batches
from frugalseg.dataset.splits import Split
from frugalseg.dataset.store import SliceStore
from frugalseg.engine.checkpoint import load_checkpoint
from frugalseg.engine.device import make_fabric
from frugalseg.engine.loop import Plan, Task, steps_and_interval, train
from frugalseg.engine.progress import say
from frugalseg.engine.run import RunFolder
from frugalseg.errors import OptionError, SplitError
from frugalseg.models.registry import build_segmenter
from frugalseg.models.saved import load_encoder, load_spec, save_model
from frugalseg.options import FinetuneOptions
from frugalseg.segment.losses import make_loss
from frugalseg.segment.recipes import RECIPES, Recipe, make_optimizer, make_schedule
from frugalseg.segment.validate import ValidationSet

VALIDATIONS = 20


def finetune(options: FinetuneOptions) -> RunFolder:
    """Train a segmentation model and leave it in `options.out`.

    Raises:
        StoreError, SplitError, RunError, DeviceError, OptionError: as their docstrings say, before any training.
        InterruptedRunError: stopped by the person; resumable.
    """
    store = SliceStore.open(options.data)
    if not store.targets:
        raise OptionError(f"{store.folder} has no labels", "prepare it again with --labels and --target")
    budget = Budget.parse(options.budget)
    split = store.split(options.split)
    encoder = load_spec(options.encoder, "encoder") if options.encoder else None
    check_encoder(encoder, store, split)
    fabric = make_fabric(options.device, options.precision)
    recipe = RECIPES[options.recipe]
    slices = store.slices
    usable = slices[store.middle(options.middle_fraction)]
    rows = draw_labels(usable, split.train, budget, options.draw, store.presence_columns)
    torch.manual_seed(options.seed)
    task = FinetuneTask(options, recipe, store, split, rows, encoder, fabric.device)
    run = RunFolder.claim("finetune", options, fabric, store.identity(split))
    if run.finished:
        say(f"{run.path} is finished")
        return run
    scans = slices.loc[rows, "case"].nunique()
    say(
        f"fine-tuning on {len(rows)} labelled slices of {scans} scans ({budget}, draw {options.draw}): "
        f"{task.steps} steps of {options.batch_size} slices"
    )
    plan = Plan(task.steps, task.interval, options.seed, recipe.clip, options.checkpoint_minutes)
    train(task, plan, fabric, run)
    if fabric.is_global_zero:
        _save(run, options, store, split, task, encoder)
    return run


class FinetuneTask(Task):
    """Supervised training of encoder and decoder on the labelled slices."""

    def __init__(
        self,
        options: FinetuneOptions,
        recipe: Recipe,
        store: SliceStore,
        split: Split,
        rows: npt.NDArray[np.int64],
        encoder: dict[str, Any] | None,
        device: torch.device,
    ) -> None:
        self.options, self.rows = options, rows
        self.backbone = encoder["backbone"] if encoder else options.backbone
        self.norm = options.norm or recipe.norm
        self.model = build_segmenter(self.backbone, len(store.targets), self.norm, recipe.dropout)
        if recipe.first_logit is not None:
            self.model.start_from_logit(recipe.first_logit)
        if options.encoder is not None:
            load_encoder(self.model.encoder, options.encoder)
        self.source = SliceSource(store, device, with_labels=True)
        self.validation = ValidationSet.of(store, split.validation, self.source, options.precision)
        self.augment = Augment("robust") if recipe.augment else None
        self.loss = make_loss(recipe.loss)
        self.steps_per_epoch = len(self.batches(0))
        steps = options.steps or (None if options.epochs else recipe.steps)
        self.steps, self.interval = steps_and_interval(
            self.steps_per_epoch, steps, options.epochs or recipe.epochs, reports=VALIDATIONS
        )
        self.interval = options.validate_every or self.interval
        self.optimizer = make_optimizer(recipe, self.model.parameters(), options.lr)
        self.scheduler = make_schedule(recipe, self.optimizer, self.steps, self.steps_per_epoch)

    def batches(self, epoch: int) -> list[Tensor]:
        """Batches of labelled rows, each (B,)."""
        return shuffled_batches(self.rows, self.options.batch_size, self.options.seed, epoch)

    def stream(self, batches: Sequence[Tensor]) -> Iterator[Slices]:
        """Images and labels of each batch."""
        return self.source.stream(batches)

    def losses(self, model: nn.Module, batch: Slices) -> dict[str, Tensor]:
        """The recipe's loss on the batch, changed at random where the recipe says so."""
        if self.augment is not None:
            batch = self.augment(batch)
        assert batch.labels is not None
        return self.loss(model(batch.images), batch.labels)

    def validate(self) -> dict[str, float]:
        """Dice per volume on the validation patients."""
        return self.validation.dice(self.model)


def check_encoder(encoder: dict[str, Any] | None, store: SliceStore, split: Split) -> None:
    """Refuse an encoder that has seen validation or test scans, or that expects other input.

    Raises:
        SplitError: leakage, by the scans' fingerprints.
        OptionError: the encoder was trained on slices prepared otherwise.
    """
    if encoder is None:
        return
    held_out = {*split.validation, *split.test}
    if leaked := store.fingerprints(held_out) & set(encoder["fingerprints"]):
        names = sorted(scan["case"] for scan in store.meta["scans"] if scan["fingerprint"] in leaked)
        raise SplitError(
            f"the encoder was pre-trained on scans that are held out here: {', '.join(names[:5])}",
            "pre-train and fine-tune with the same split",
        )
    if encoder["preprocessing"]["intensity"] != store.preprocessing["intensity"]:
        raise OptionError(
            f"the encoder expects intensities scaled by {encoder['preprocessing']['intensity']}, "
            f"the store has {store.preprocessing['intensity']}",
            "prepare the store with the same window",
        )


def _save(
    run: RunFolder,
    options: FinetuneOptions,
    store: SliceStore,
    split: Split,
    task: FinetuneTask,
    encoder: dict[str, Any] | None,
) -> None:
    """Write the best model, and with it what predicting and judging it needs to know."""
    best = load_checkpoint(run.best if run.best.is_file() else run.last)
    task.model.load_state_dict(best["model"])
    task.model.eval()
    if task.validation.cases:
        largest = task.validation.worth_keeping_largest(task.model)
        say("keeping the largest component: " + ", ".join(f"{o} {'yes' if k else 'no'}" for o, k in largest.items()))
    else:
        largest = dict.fromkeys(store.targets, False)
        warnings.warn(
            "no validation patient has labels: the last step's model is kept, and nothing was chosen", stacklevel=2
        )
    used = store.slices.loc[task.rows]
    spec = {
        "kind": "segmenter",
        "version": __version__,
        "backbone": task.backbone,
        "norm": task.norm,
        "targets": store.meta["parameters"]["targets"],
        "preprocessing": store.preprocessing,
        "keep_largest": largest,
        "step": best["step"],
        "validation_dice": best["best"] if task.validation.cases else None,
        "annotation": {
            "budget": options.budget,
            "draw": options.draw,
            "masks": len(used),
            "mask_scans": int(used["case"].nunique()),
            "validation_scans": len(task.validation.cases),
            "pretraining": encoder["annotation"] if encoder else None,
        },
        "scans": scan_roles(store, split, set(used["case"]), set(encoder["fingerprints"]) if encoder else set()),
    }
    save_model(run.path, task.model, spec)


def scan_roles(store: SliceStore, split: Split, trained_on: set[str], pretrained_on: set[str]) -> list[dict[str, str]]:
    """What the model knows of each scan of its store: case, fingerprint and role.

    train: its mask was trained on. validation: it chose the model. pretrain: the encoder saw it, its mask was not
    used. unused: a training patient's that the model never saw. test: held out.

    Args:
        store, split: the data.
        trained_on: cases whose masks were trained on.
        pretrained_on: fingerprints of the scans that the encoder saw.
    """
    part_of = split.part_of()
    trained = {scan["fingerprint"] for scan in store.meta["scans"] if scan["case"] in trained_on}
    scans = []
    for scan in store.meta["scans"]:
        role = part_of.get(scan["patient"], "unused")
        if role == "train" and scan["fingerprint"] not in trained:
            role = "unused"
        if role == "unused" and scan["fingerprint"] in pretrained_on:
            role = "pretrain"
        scans.append({"case": scan["case"], "fingerprint": scan["fingerprint"], "role": role})
    elsewhere = pretrained_on - {scan["fingerprint"] for scan in scans}
    return scans + [{"case": "", "fingerprint": seen, "role": "pretrain"} for seen in sorted(elsewhere)]
