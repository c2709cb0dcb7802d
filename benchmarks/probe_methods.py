"""Probe of the encoder after a short pre-training by each method, on phantoms.

Phantoms are not patients, and a probe is no segmentation: this shows whether a method learns anything, not which one is
best.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from frugalseg.dataset.prepare import prepare
from frugalseg.dataset.store import SliceStore
from frugalseg.options import PrepareOptions, PretrainOptions
from frugalseg.phantoms.cohort import LABELS, write_cohort
from frugalseg.pretraining.methods import METHODS
from frugalseg.pretraining.pretrain import pretrain
from frugalseg.pretraining.task import PretrainTask

ORGANS = ("liver", "spleen", "left_kidney", "pancreas")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument(
        "--lr", type=float, default=1e-3, help="learning rate of all methods; PolyCL's default is for 100 epochs"
    )
    parser.add_argument("--methods", nargs="+", choices=sorted(METHODS), default=list(METHODS))
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        images, labels = write_cohort(root, 20, seed=0)
        target = [f"{organ}={LABELS[organ]}" for organ in ORGANS]
        store = prepare(
            PrepareOptions(images=images, labels=labels, target=target, size=64, out=root / "store", superpixels=True)
        )
        rows = [_row("not trained", [_untrained(store, root, seed) for seed in range(arguments.seeds)], "")]
        for method in arguments.methods:
            figures = [_trained(store, root, method, seed, arguments) for seed in range(arguments.seeds)]
            rows.append(_row(method, figures, _target(method)))
    title = f"Probe after {arguments.steps} steps of 20 at 64², lr {arguments.lr:g}, {arguments.seeds} seeds"
    table = Table("", "measured", "expected", title=title, title_justify="left")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def _target(method):
    if method == "random-pairs":
        return "the control"
    return "invariant to organs" if method.startswith("polycl-s") else "above random-pairs"


def _row(name, figures, target):
    areas = [f["probe_auroc"] for f in figures]
    geometry = ", ".join(f"{key} {np.mean([f[key] for f in figures]):.2f}" for key in ("uniformity", "embedding_rank"))
    return name, f"AUROC {np.mean(areas):.3f} ({min(areas):.3f}–{max(areas):.3f}), {geometry}", target


def _options(store, out, method, seed, **changes):
    return PretrainOptions(data=store.folder, out=out, method=method, seed=seed, device="auto", **changes)


def _untrained(store: SliceStore, root, seed):
    torch.manual_seed(seed)
    task = PretrainTask(_options(store, root / "none", "random-pairs", seed), store, store.split(), torch.device("cpu"))
    return task.probe(task.model.network)


def _trained(store, root, method, seed, arguments):
    # With the default momentum the momentum encoder would hardly change in so few steps.
    changes = {"momentum": 0.99} if method in {"moco", "byol"} else {}
    options = _options(
        store, root / f"{method}-{seed}", method, seed, steps=arguments.steps, lr=arguments.lr, **changes
    )
    return pretrain(options).read_records()[-1]


if __name__ == "__main__":
    main()
