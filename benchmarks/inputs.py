"""What the cases work on: phantoms, stores of their slices, and a model trained on them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np

import frugalseg
from frugalseg.options import FinetuneOptions, PrepareOptions
from measure import Setting

Shape = tuple[int, int, int]

LIVER = "liver=6"
VALUES = (1, 2, 3, 4, 5, 6, 8, 9, 11)
UPPER = 20
ORGANS = [f"organ_{v}={v}" for v in VALUES] + [f"upper_{v}={v + UPPER}" for v in (2, 3, 6, 8)]
"""Thirteen classes: the nine organs of phantoms, four of them in two halves."""


@dataclass(frozen=True)
class Scans:
    """Phantoms with their labels.

    Attributes:
        folder: holds `images`, `labels`, and `halves` with other values in the upper half of every scan.
        shape: voxels of each.
    """

    folder: Path
    shape: Shape

    @property
    def images(self) -> Path:
        """The scans."""
        return self.folder / "images"

    @property
    def labels(self) -> Path:
        """Their label volumes."""
        return self.folder / "labels"


def write_scans(path: Path, cases: int, shape: Shape) -> Scans:
    """Write phantoms of this shape."""
    from frugalseg.phantoms.cohort import PhantomOptions, write_cohort

    _, labels = write_cohort(path, cases, 0, PhantomOptions(shape))
    halves = path / "halves"
    halves.mkdir()
    for file in labels.iterdir():
        image = nib.load(file)
        values = np.array(image.dataobj)
        upper = values[:, :, values.shape[2] // 2 :]
        upper[upper > 0] += UPPER
        nib.save(nib.Nifti1Image(values, image.affine), halves / file.name)
    return Scans(path, shape)


def scans(setting: Setting, cases: int, shape: Shape, smoke: Shape = (48, 48, 6)) -> Scans:
    """Phantoms of this shape."""
    shape = setting.pick(shape, smoke)
    name = f"scans-{cases}-{'x'.join(map(str, shape))}"
    return Scans(setting.once(name, partial(write_scans, cases=cases, shape=shape)), shape)


def large_scan(setting: Setting) -> Scans:
    """One phantom of 512×512×200."""
    return scans(setting, 1, (512, 512, 200))


def _prepare(path: Path, of: Scans, size: int, target: list[str]) -> None:
    labels = of.folder / "halves" if target == ORGANS else of.labels
    frugalseg.prepare(
        PrepareOptions(images=of.images, labels=labels, target=target, size=size, superpixels=True, out=path)
    )


def store(setting: Setting, size: int, target: list[str] | None = None, cases: int = 10, slices: int = 24) -> Path:
    """A store of phantoms, with superpixels; of ten phantoms, six are for training."""
    size, target = setting.pick(size, 32), target or [LIVER]
    cohort = scans(setting, cases, (96, 96, slices))
    return setting.once(
        f"store-{cases}-{slices}-{size}-{len(target)}", partial(_prepare, of=cohort, size=size, target=target)
    )


def _train(path: Path, data: Path, steps: int) -> None:
    frugalseg.finetune(
        FinetuneOptions(data=data, out=path, steps=steps, batch_size=4, validate_every=steps, device="cpu")
    )


def model(setting: Setting, target: list[str]) -> Path:
    """A U-Net for slices of 128², trained just long enough that its masks look like organs."""
    data = store(setting, 128, target)
    return setting.once(f"model-{len(target)}", partial(_train, data=data, steps=setting.pick(60, 1)))
