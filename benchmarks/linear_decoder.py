"""What frozen encoders have learned: a linear classifier of the features of each pixel, trained on few labels.

    python benchmarks/linear_decoder.py STORE ENCODER … [--budget "5 slices"] [--draw 0] [--steps 500] [--csv FILE]

ENCODER is whatever `finetune --backbone` takes as a frozen encoder. The classifier is a 1×1 convolution of the map,
whose logits are enlarged to the slice. Dice is the mean over the organs of a whole test patient at the store's
resolution, without post-processing.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from frugalseg.dataset.budget import Budget, draw_labels
from frugalseg.dataset.store import SliceStore
from frugalseg.features.cache import SliceFeatures
from frugalseg.features.encoder import FrozenEncoder
from frugalseg.segmentation.losses import make_loss

BATCH = 8


def train(features: SliceFeatures, store: SliceStore, rows: np.ndarray, steps: int) -> nn.Module:
    """The classifier of the labelled slices, with the features normalised over them."""
    torch.manual_seed(0)
    maps = torch.from_numpy(np.asarray(features[rows])).float()
    masks = torch.from_numpy(np.asarray(store.labels[rows])).long()
    norm = nn.BatchNorm2d(maps.shape[1], affine=False)
    network = nn.Sequential(norm, nn.Conv2d(maps.shape[1], len(store.targets), 1))
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=steps)
    loss_of = make_loss("log_dice_over_batch+ce")
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        chosen = torch.randint(len(rows), (BATCH,), generator=generator)
        logits = F.interpolate(network(maps[chosen]), masks.shape[1:], mode="bilinear")
        loss = loss_of(logits, masks[chosen])["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


@torch.no_grad()
def score(network: nn.Module, features: SliceFeatures, store: SliceStore, patient: str) -> float:
    """Mean Dice over the organs that the patient's mask shows."""
    rows = store.slices.index[store.slices["patient"] == patient].to_numpy(np.int64)
    truth = np.asarray(store.labels[rows])
    parts = [torch.from_numpy(np.asarray(features[part])).float() for part in np.array_split(rows, len(rows) // 16 + 1)]
    logits = torch.cat([F.interpolate(network(part), truth.shape[1:], mode="bilinear") for part in parts])
    best, found = logits.max(dim=1)
    made = torch.where(best > 0, found + 1, 0).numpy()
    organs = [number for number in range(1, len(store.targets) + 1) if (truth == number).any()]
    both = [2 * ((made == n) & (truth == n)).sum() / ((made == n).sum() + (truth == n).sum()) for n in organs]
    return float(np.mean(both))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("encoders", nargs="+")
    parser.add_argument("--budget", default="5 slices")
    parser.add_argument("--draw", type=int, default=0)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--csv", type=Path)
    given = parser.parse_args()
    store = SliceStore.open(given.store)
    split = store.split()
    rows = draw_labels(store.slices, split.train, Budget.parse(given.budget), given.draw, store.presence_columns)
    lines = []
    for name in given.encoders:
        encoder = FrozenEncoder.load(name, torch.device("cpu"), "auto")
        features = SliceFeatures(store.images, encoder, store.folder / "features")
        start = time.process_time()
        network = train(features, store, rows, given.steps)
        seconds = time.process_time() - start
        dice = {patient: score(network, features, store, patient) for patient in sorted(split.test)}
        lines.append(
            {"encoder": Path(name).name, "budget": given.budget, "draw": given.draw, "seconds": round(seconds)}
        )
        lines[-1] |= {"mean": round(float(np.mean(list(dice.values()))), 3)} | {p: round(d, 3) for p, d in dice.items()}
        print(lines[-1], flush=True)
    if given.csv:
        with given.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(lines[0]))
            writer.writeheader()
            writer.writerows(lines)


if __name__ == "__main__":
    main()
