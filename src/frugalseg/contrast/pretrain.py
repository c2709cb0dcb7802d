"""`frugalseg pretrain`: train an encoder on the training patients' slices by contrast."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from frugalseg._version import __version__
from frugalseg.contrast.loss import contrastive_loss, triplet_pairs
from frugalseg.contrast.pairs import PairTable
from frugalseg.dataset.augment import Augment
from frugalseg.dataset.source import Slices, SliceSource, shuffled_batches
from frugalseg.dataset.splits import Split
from frugalseg.dataset.store import SliceStore
from frugalseg.engine.device import make_fabric
from frugalseg.engine.loop import Plan, Task, steps_and_interval, train
from frugalseg.engine.progress import say
from frugalseg.engine.run import RunFolder
from frugalseg.errors import SplitError
from frugalseg.models.registry import build_projection
from frugalseg.models.saved import save_model
from frugalseg.options import PretrainOptions

NEEDS_PRESENCE = {"polycl-o", "polycl-m"}
"""Methods that use a label "organ present" for every training slice, which is annotation too."""

EPOCHS = 100


def pretrain(options: PretrainOptions) -> RunFolder:
    """Train an encoder and leave it in `options.out`.

    Raises:
        StoreError, SplitError, RunError, DeviceError, OptionError: as their docstrings say, before any training.
        InterruptedRunError: stopped by the person; resumable.
    """
    store = SliceStore.open(options.data)
    split = store.split(options.split)
    fabric = make_fabric(options.device, options.precision)
    torch.manual_seed(options.seed)
    task = PretrainTask(options, store, split, fabric.device)
    run = RunFolder.claim("pretrain", options, fabric, store.identity(split))
    if run.finished:
        say(f"{run.path} is finished")
        return run
    steps, interval = steps_and_interval(task.steps_per_epoch, options.steps, options.epochs or EPOCHS, reports=None)
    plan = Plan(steps, interval, options.seed, clip=None, checkpoint_minutes=options.checkpoint_minutes)
    say(
        f"pre-training by {options.method} on {len(task.rows)} slices: "
        f"{plan.steps} steps of {options.batch_size} triplets"
    )
    train(task, plan, fabric, run)
    if fabric.is_global_zero:
        save_model(run.path, task.model, _describe(options, store, task))
    return run


class PretrainTask(Task):
    """PolyCL: pull an anchor to its positive and away from its negative, in triplets drawn anew every epoch."""

    def __init__(self, options: PretrainOptions, store: SliceStore, split: Split, device: torch.device) -> None:
        self.options = options
        self.rows = training_rows(store, split, options)
        slices = store.slices.loc[self.rows]
        self.pairs = PairTable(
            self.rows,
            scan=np.unique(slices["case"].to_numpy(str), return_inverse=True)[1],
            present=slices[store.presence_columns].to_numpy(bool),
            z_mm=slices["z_mm"].to_numpy(),
        )
        self.source = SliceSource(store, device, with_labels=False)
        self.augment = Augment("light") if options.augment == "light" else None
        self.steps_per_epoch = len(self.batches(0))
        self.model = build_projection(options.backbone, options.norm)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=options.lr)
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(
            self.optimizer, T_0=options.restart * self.steps_per_epoch
        )

    def batches(self, epoch: int) -> list[Tensor]:
        """Batches of triplets, each (B, 3) rows: anchor, positive, negative."""
        o = self.options
        triplets = self.pairs.draw(o.method, np.random.default_rng([o.seed, epoch, 3]), o.neg_scope, o.min_dz)
        if epoch == 0 and len(triplets) < len(self.rows):
            say(f"{len(self.rows) - len(triplets)} slices are no anchors: no other slice can be their positive")
        return shuffled_batches(triplets.stacked(), o.batch_size, o.seed, epoch)

    def stream(self, batches: Sequence[Tensor]) -> Iterator[Slices]:
        """Images of each batch: all anchors, then all positives, then all negatives."""
        return self.source.stream([triplets.T.reshape(-1) for triplets in batches])

    def losses(self, model: nn.Module, batch: Slices) -> dict[str, Tensor]:
        """PolyCL's triplet loss."""
        if self.augment is not None:
            batch = self.augment(batch)
        embeddings = model(batch.images)
        positives, compared = triplet_pairs(len(embeddings) // 3, embeddings.device)
        return {"loss": contrastive_loss(embeddings, positives, compared, self.options.tau)}


def training_rows(store: SliceStore, split: Split, options: PretrainOptions) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Rows of the training patients' slices that the method may use.

    Raises:
        SplitError: none are left; for methods on organ presence, when no training scan is labelled.
    """
    slices = store.slices
    usable = slices["patient"].isin(split.train).to_numpy() & store.middle(options.middle_fraction)
    if options.method in NEEDS_PRESENCE:
        unlabelled = usable & ~slices["labelled"].to_numpy()
        usable &= slices["labelled"].to_numpy()
        if not usable.any():
            raise SplitError(
                f"{options.method} needs to know which slices hold the target, and no training scan has labels",
                "use --method polycl-s, which needs no labels",
            )
        if unlabelled.any():
            cases = slices.loc[unlabelled, "case"].nunique()
            warnings.warn(
                f"{options.method} needs organ-present labels: {cases} unlabelled scans are left out "
                "(polycl-s would use them)",
                stacklevel=2,
            )
    return np.flatnonzero(usable)


def _describe(options: PretrainOptions, store: SliceStore, task: PretrainTask) -> dict[str, Any]:
    """model.json of a pre-training run."""
    seen = store.slices.loc[task.rows]
    return {
        "kind": "encoder",
        "version": __version__,
        "backbone": options.backbone,
        "norm": options.norm,
        "method": options.method,
        "preprocessing": store.preprocessing,
        "annotation": {
            "masks": 0,
            "organ_present_labels": len(seen) if options.method in NEEDS_PRESENCE else 0,
            "scans_seen": int(seen["case"].nunique()),
        },
        "fingerprints": sorted(s["fingerprint"] for s in store.meta["scans"] if s["case"] in set(seen["case"])),
    }
