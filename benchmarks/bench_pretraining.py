"""A pre-training step on 20 triplets, compared with one implemented like PolyCL's published code; time of a probe.

The published implementation, reimplemented from its description: every item of a batch is read and converted separately
(here from arrays in memory, which is faster than HDF5 files on disk); anchors, positives and negatives pass through the
network one after the other; the loss computes exponentials and a logarithm. All in float32, with the same network.

Each variant runs in separate processes, since the allocator's setting applies to a whole process. They alternate, so
that other load on the machine affects all of them.
"""

from __future__ import annotations

import statistics
import tempfile
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import cycle
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from frugalseg.dataset.source import SliceSource
from frugalseg.dataset.store import SliceStore
from frugalseg.engine.allocator import keep_freed_memory
from frugalseg.engine.device import autocast, describe, find_device
from frugalseg.models.registry import build_projection
from frugalseg.options import Precision
from frugalseg.pretraining.loss import contrastive_loss, triplet_pairs
from frugalseg.pretraining.probe import Probe
from stores import store_record
from tables import show, timed

SLICES, PATIENTS, TRIPLETS, TAU = 240, 12, 20, 0.05
NORM = "instance"  # without learned scale, as published
ROUNDS, STEPS = 2, 4


def main() -> None:
    rows = []
    for size in (128, 256):
        with tempfile.TemporaryDirectory() as folder:
            rng = np.random.default_rng(0)
            images = rng.random((SLICES, size, size), dtype=np.float32).astype(np.float16)
            np.save(Path(folder) / "images.npy", images)
            published, exact, fast, probing = _medians(Path(folder), [_published, _ours_32, _ours_bf16, _probe])
        rows += [
            (f"{size}²: as published, float32", f"{1000 * published:.0f} ms", ""),
            (f"{size}²: frugalseg, float32", f"{1000 * exact:.0f} ms ({published / exact:.1f}×)", "no slower"),
            (f"{size}²: frugalseg, bf16", f"{1000 * fast:.0f} ms ({published / fast:.1f}×)", "≥ 2× faster"),
            (f"{size}²: probe", f"{probing:.2f} s", "≤ 2 s" if size == 128 else ""),
        ]
    show(f"Pre-training step, {TRIPLETS} triplets, on {describe(find_device('auto'))}", rows)


def _medians(folder: Path, ways: list[Callable[[Path], list[float]]]) -> list[float]:
    seconds: dict[str, list[float]] = {way.__name__: [] for way in ways}
    for _ in range(ROUNDS):
        for way in ways:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                seconds[way.__name__] += process.submit(way, folder).result()
    return [statistics.median(times) for times in seconds.values()]


def _open(folder: Path) -> SliceStore:
    """A store of noise slices, of which every other one shows an organ."""
    patient = np.repeat(np.arange(PATIENTS), SLICES // PATIENTS).astype(str)
    z = np.tile(np.arange(SLICES // PATIENTS), PATIENTS)
    table = {"case": patient, "patient": patient, "z": z, "labelled": True, "has_organ": z % 2 == 0}
    size = np.load(folder / "images.npy", mmap_mode="r").shape[-1]
    return SliceStore(folder, store_record(size, ("organ",)), pd.DataFrame(table))


class TripletSet(Dataset):
    """One fixed triplet per anchor, read and converted item by item from float64 arrays."""

    def __init__(self, images: np.ndarray) -> None:
        self.images = images.astype(np.float64)
        rng = np.random.default_rng(1)
        self.triplets = np.stack([np.arange(len(images)), *rng.integers(0, len(images), (2, len(images)))], axis=1)

    def __len__(self) -> int:
        return len(self.triplets)

    def __getitem__(self, item: int) -> tuple[torch.Tensor, ...]:
        return tuple(torch.from_numpy(self.images[row][None]).float() for row in self.triplets[item])


def _published(folder: Path) -> list[float]:
    device = find_device("auto")
    model = build_projection("unet", NORM).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    batches = _forever(DataLoader(TripletSet(_open(folder).images), batch_size=TRIPLETS, shuffle=True, drop_last=True))

    def step() -> float:
        anchor, positive, negative = (model(images.to(device)) for images in next(batches))
        near = torch.exp(F.cosine_similarity(anchor, positive) / TAU)
        far = torch.exp(F.cosine_similarity(anchor, negative) / TAU)
        loss = -torch.log(near / (near + far)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return timed(step, STEPS)


def _ours_32(folder: Path) -> list[float]:
    return _ours(folder, "32")


def _ours_bf16(folder: Path) -> list[float]:
    return _ours(folder, "bf16")


def _ours(folder: Path, precision: Precision) -> list[float]:
    keep_freed_memory()
    device = find_device("auto")
    model = build_projection("unet", NORM).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    source = SliceSource(_open(folder), device, with_labels=False, rows=np.arange(SLICES))
    rng = np.random.default_rng(1)
    pairs = triplet_pairs(TRIPLETS, device)
    drawn = cycle([torch.from_numpy(rng.integers(0, SLICES, 3 * TRIPLETS)) for _ in range(SLICES // TRIPLETS)])

    def step() -> float:
        batch = source.gather(next(drawn))
        with autocast(precision, device):
            embeddings = model(batch.images)
        loss = contrastive_loss(embeddings, *pairs, TAU)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    return timed(step, STEPS)


def _probe(folder: Path) -> list[float]:
    keep_freed_memory()
    device = find_device("auto")
    store = _open(folder)
    probe = Probe(store, np.arange(SLICES), SliceSource(store, device, with_labels=False), seed=0)
    model = build_projection("unet", NORM).to(device)
    warnings.simplefilter("ignore")  # the probe warns that embeddings of noise are similar
    return timed(lambda: probe(model), STEPS)


def _forever(loader: DataLoader) -> Iterator[list[torch.Tensor]]:
    while True:
        yield from loader


if __name__ == "__main__":
    main()
