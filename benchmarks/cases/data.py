"""From scans to batches."""

from __future__ import annotations

from collections import deque
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import frugalseg
from frugalseg.options import PrepareOptions
from inputs import LIVER, scans, store
from measure import OURS, Case, Setting, Work, timed

BATCH = 20


def prepare(setting: Setting) -> Work:
    cohort = scans(setting, 10, (96, 96, 24))

    def run() -> None:
        frugalseg.prepare(
            PrepareOptions(
                images=cohort.images, labels=cohort.labels, target=[LIVER], size=128, out=setting.empty("prepared")
            )
        )

    return timed(run, units=10)


def pairs(setting: Setting, of: int = 58_500) -> Any:
    """A table of pairs of a data set of the size of LiTS' training part: 130 scans, the liver in a third of each."""
    from frugalseg.pretraining.pairs import PairTable

    count = setting.pick(450, 12)
    z = np.tile(np.arange(count) * 1.0, of // 450)
    present = ((z > count / 3) & (z < 2 * count / 3))[:, None]
    return PairTable(np.arange(len(z)), np.repeat(np.arange(of // 450), count), present, z)


def draw_pairs(setting: Setting) -> Work:
    table, rng = pairs(setting), np.random.default_rng(0)
    return timed(lambda: table.draw("polycl-m", rng, "same", 0.0), units=len(table.rows) / 1000)


def draw_pairs_in_a_loop(setting: Setting) -> Work:
    """PolyCL-M's rule as a program would first be written: for each anchor, all slices that may be drawn."""
    table, rng = pairs(setting), np.random.default_rng(0)
    anchors = rng.permutation(len(table.rows))[: setting.pick(100, 2)]

    def run() -> None:
        for anchor in anchors:
            same_scan = table.scan == table.scan[anchor]
            alike = table.organs == table.organs[anchor]
            positives = np.flatnonzero(same_scan & alike)
            rng.choice(positives[positives != anchor])
            rng.choice(np.flatnonzero(same_scan & ~alike))

    return timed(run, units=len(anchors) / 1000)


def open_store(setting: Setting) -> tuple[Any, list[Any]]:
    """A store, and batches of random rows of it."""
    import torch

    from frugalseg.dataset.store import SliceStore

    slices = SliceStore.open(store(setting, 256))
    rng = np.random.default_rng(0)
    return slices, [torch.from_numpy(rng.integers(0, len(slices.images), BATCH)) for _ in range(50)]


def gather(setting: Setting) -> Work:
    import torch

    from frugalseg.dataset.source import SliceSource

    slices, batches = open_store(setting)
    source = SliceSource(slices, torch.device("cpu"), with_labels=True, resident=True)
    return timed(lambda: deque(source.stream(batches), maxlen=0), units=len(batches))


def gather_one_by_one(setting: Setting) -> Work:
    import torch
    from torch.utils.data import default_collate

    slices, batches = open_store(setting)

    def read(row: int) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.from_numpy(slices.images[row][None]).float(), torch.from_numpy(np.array(slices.labels[row]))

    return timed(lambda: [default_collate([read(int(row)) for row in rows]) for rows in batches], units=len(batches))


def labelled_batch(setting: Setting) -> Any:
    """Ten labelled slices of 128²."""
    import torch

    from frugalseg.dataset.source import Slices

    size = setting.pick(128, 32)
    images = torch.rand(10, 1, size, size, generator=torch.Generator().manual_seed(0))
    return Slices(images, (images[:, 0] > 0.8).to(torch.uint8))


def augment(setting: Setting) -> Work:
    from frugalseg.dataset.augment import Augment

    change, batch = Augment("robust"), labelled_batch(setting)
    return timed(lambda: [change(batch) for _ in range(setting.pick(20, 1))], units=setting.pick(20, 1))


def kornia_robust() -> tuple[Any, Any]:
    """The recipe `robust` in Kornia's operations: changes of image and labels, and of the image alone."""
    import kornia.augmentation as K
    from torch import nn

    geometry = K.AugmentationSequential(
        K.RandomAffine(degrees=30.0, translate=(0.1, 0.1), scale=(0.7, 1.4), p=0.95), data_keys=["input", "mask"]
    )
    intensity = nn.Sequential(
        K.RandomContrast((0.6, 1.5), p=0.7),
        K.RandomBrightness((0.7, 1.3), p=0.7),
        K.RandomGamma((0.6, 1.7), p=0.5),
        K.RandomGaussianBlur((5, 5), (0.5, 1.5), p=0.2),
        K.RandomGaussianNoise(std=0.06, p=0.4),
    )
    return geometry, intensity


def augment_with_kornia(setting: Setting) -> Work:
    geometry, intensity = kornia_robust()
    batch = labelled_batch(setting)

    def run() -> None:
        for _ in range(setting.pick(20, 1)):
            images, _ = geometry(batch.images, batch.labels[:, None].float())
            intensity(images).clamp(0, 1)

    return timed(run, units=setting.pick(20, 1))


def pictures(setting: Setting) -> list[Any]:
    """Slices of a phantom, 256² in [0, 1]."""
    from frugalseg.dataset.store import SliceStore

    images = SliceStore.open(store(setting, 256)).images
    return [np.array(image, np.float32) for image in images[8 : setting.pick(16, 9)]]


def superpixels(setting: Setting) -> Work:
    from frugalseg.dataset.superpixels import Slic

    images = pictures(setting)
    slic = Slic.for_size(images[0].shape[0], None, 10.0)
    return timed(lambda: [slic(image) for image in images], units=len(images))


def superpixels_as_published(setting: Setting) -> Work:
    """Three equal channels, converted to Lab."""
    from skimage.segmentation import slic

    from frugalseg.dataset.superpixels import Slic

    images = pictures(setting)
    segments = Slic.for_size(images[0].shape[0], None, 10.0).segments
    return timed(
        lambda: [slic(np.dstack([image] * 3), segments, 10.0, start_label=0) for image in images], units=len(images)
    )


def write_slices(path: Path, slices: int) -> None:
    """An empty array of slices of 32², which takes no disk."""
    path.mkdir()
    np.lib.format.open_memmap(path / "images.npy", "w+", np.float16, (slices, 32, 32)).flush()


def open_slices(setting: Setting, slices: int) -> Any:
    """A store of 10 slices a scan, of which every other one shows an organ."""
    from dataclasses import replace

    import pandas as pd
    from msgspec import UNSET

    from frugalseg.dataset.store import SliceStore

    record = SliceStore.open(store(setting, 32)).record
    scan = replace(record.scans[0], digests=UNSET)  # these slices were never prepared
    z = np.tile(np.arange(10), slices // 10)
    case = np.repeat(np.arange(slices // 10), 10).astype(str)
    table = {"case": case, "patient": case, "z": z, "z_mm": 5.0 * z, "position": (z + 1) / 10, "has_liver": z % 2 == 0}
    folder = setting.once(f"slices-{slices}", partial(write_slices, slices=slices))
    return SliceStore(folder, replace(record, scans=(scan,)), pd.DataFrame(table))


def epoch(setting: Setting, slices: int) -> Work:
    """Everything of an epoch of PolyCL-M but the network: the triplets are drawn, shuffled and gathered."""
    import torch

    from frugalseg.dataset.source import SliceSource
    from frugalseg.pretraining.pairs import PairTable

    data, rng = open_slices(setting, setting.pick(slices, 100)), np.random.default_rng(0)
    rows = np.arange(len(data.slices))
    table = PairTable(rows, rows // 10, data.slices[["has_liver"]].to_numpy(), data.slices["z_mm"].to_numpy())
    source = SliceSource(data, torch.device("cpu"), with_labels=False, resident=False)

    def run() -> None:
        drawn = table.draw("polycl-m", rng, "same", 0.0)
        triplets = np.stack([drawn.anchor, drawn.positive, drawn.negative], axis=1)
        batches = torch.from_numpy(rng.permutation(triplets)).reshape(-1, 3 * BATCH)
        deque(source.stream(list(batches)), maxlen=0)

    return timed(run, units=len(rows) / 1000)


def write_unlabelled(path: Path, template: Path, scans: int, slices: int) -> None:
    """A store of scans without masks, all of training patients: noise in 32²."""
    from dataclasses import replace

    from msgspec import UNSET

    from frugalseg.dataset.store import SliceStore, build_index
    from frugalseg.records.split import Split

    record = SliceStore.open(template).record
    organs = record.parameters.targets
    present = ((False,) * len(organs),) * slices
    entry = replace(record.scans[0], slices=slices, labels_sha256=None, values=(), present=present, digests=UNSET)
    entries = tuple(replace(entry, case=f"scan_{n:04d}", patient=f"scan_{n:04d}") for n in range(scans))
    path.mkdir()
    noise = np.random.default_rng(0).uniform(size=(scans * slices, 32, 32)).astype(np.float16)
    np.save(path / "images.npy", noise)
    build_index(entries, organs).to_parquet(path / "slices.parquet")
    Split(tuple(entry.case for entry in entries), (), ()).write(path / "split.json")
    replace(record, scans=entries).write(path / "store.json")


def suggest(setting: Setting, cached: bool) -> Work:
    """Twenty slices of 1000 scans of 100 slices, by the rule that compares slices with each other."""
    from frugalseg.options import SuggestOptions

    scans = setting.pick(1000, 8)
    folder = setting.once(
        f"unlabelled-{scans}", partial(write_unlabelled, template=store(setting, 32), scans=scans, slices=100)
    )
    cache = setting.empty("features") if cached else None

    def run() -> None:
        frugalseg.suggest(
            SuggestOptions(data=folder, out=setting.empty("suggested"), budget=20, rule="alike", cache=cache)
        )

    if cached:
        run()
    return timed(run)


CASES = [
    Case("prepare", "scan of 96×96×24, to 128²", {OURS: prepare}),
    Case("pair selection", "1000 anchors of 58,500, PolyCL-M", {OURS: draw_pairs, "naive loop": draw_pairs_in_a_loop}),
    Case("gather", f"{BATCH} slices of 256² with labels", {OURS: gather, "one by one": gather_one_by_one}),
    Case("augment", "10 slices of 128² with labels, robust", {OURS: augment, "Kornia": augment_with_kornia}),
    Case("SLIC", "slice of 256²", {OURS: superpixels, "as published": superpixels_as_published}),
    Case(
        "suggest",
        "20 slices of 1000 scans of 100 slices of 32²",
        {OURS: partial(suggest, cached=True), "features computed": partial(suggest, cached=False)},
        clock="wall",
    ),
    Case(
        "epoch without network",
        "1000 slices of 32², PolyCL-M",
        {
            OURS: partial(epoch, slices=1000),
            "10⁴ slices": partial(epoch, slices=10_000),
            "10⁵ slices": partial(epoch, slices=100_000),
            "10⁶ slices": partial(epoch, slices=1_000_000),
        },
    ),
]
