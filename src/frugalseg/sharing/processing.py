"""From a scan to the squares that a network of frugalseg sees, and from its probabilities to a mask.

`frugalseg export` copies this file beside the network: it needs NumPy and SciPy only. All settings come from
recipe.json.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Floats = npt.NDArray[np.float32]
Classes = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]

SAMPLE = 1 << 21
CROSS = ndimage.generate_binary_structure(2, 1)[np.newaxis]
ACROSS = np.ones((3, 1, 1), dtype=bool)
CUBE = np.ones((3, 3, 3), dtype=bool)


class Processing:
    """What happens before and after the network.

    Slices are axial, from inferior to superior, each with rows from anterior to posterior and columns from the
    patient's right to left: an array (X, Y, Z) with axes L, P, S, transposed.

    Args:
        recipe: content of recipe.json.
    """

    def __init__(self, recipe: dict[str, Any]) -> None:
        self.size, self.context = int(recipe["size"]), int(recipe["context"])
        self.intensity: dict[str, Any] = recipe["intensity"]
        self.values = [0, *(int(values[0]) for values in recipe["organs"].values())]
        self.keep = [str(recipe["keep"][organ]) for organ in recipe["organs"]]
        self.bridge_radius = int(recipe["bridge_radius"])

    @classmethod
    def read(cls, path: Path) -> Processing:
        """From the file recipe.json."""
        return cls(json.loads(path.read_text(encoding="utf-8")))

    def prepare(self, slices: npt.NDArray[Any], spacing: tuple[float, float]) -> Floats:
        """Slices (Z, H, W) and mm between rows and columns → squares with their neighbours (Z, 2·context + 1, S, S)."""
        low, high = self._limits(slices)
        scaled = np.clip((slices.astype(np.float32) - np.float32(low)) / np.float32(high - low), 0, 1)
        (rows, columns), (top, left) = self._inner(slices.shape[1:], spacing)
        resized = _resize(scaled, (rows, columns))
        squares = np.zeros((len(slices), self.size, self.size), dtype=np.float32)
        squares[:, top : top + rows, left : left + columns] = resized
        around = np.arange(len(slices))[:, None] + np.arange(-self.context, self.context + 1)
        shown: Floats = squares[around.clip(0, len(slices) - 1)]
        return shown

    def finish(
        self, probabilities: Floats, squares: Floats, shape: tuple[int, int], spacing: tuple[float, float]
    ) -> npt.NDArray[Any]:
        """The mask of a scan in the label values of recipe.json, (Z, H, W).

        Args:
            probabilities: what the network gave, (Z, 1 + C, S, S), background first.
            squares: what `prepare` gave.
            shape, spacing: H, W of the slices, and mm between their rows and columns.
        """
        (rows, columns), (top, left) = self._inner(shape, spacing)
        classes = np.empty((len(probabilities), *shape), dtype=np.uint8)
        for z, planes in enumerate(probabilities):
            organs = planes[1:, top : top + rows, left : left + columns]
            if np.ptp(squares[z, self.context]) == 0:  # blank slices show no organ
                organs = np.zeros_like(organs)
            restored = _resize(organs, shape)
            classes[z] = np.concatenate([1 - restored.sum(axis=0, keepdims=True), restored]).argmax(axis=0)
        reach = max(1, round(self.bridge_radius * max(shape) / self.size))
        for number, keep in enumerate(self.keep, start=1):
            _filter(classes, number, keep, reach)
        smallest = np.result_type(*map(np.min_scalar_type, (min(self.values), max(self.values))))
        found: npt.NDArray[Any] = np.array(self.values, dtype=smallest)[classes]
        return found

    def _limits(self, slices: npt.NDArray[Any]) -> tuple[float, float]:
        """The intensities that become 0 and 1."""
        low, high = float(self.intensity["low"]), float(self.intensity["high"])
        if self.intensity["kind"] == "ct":
            return low, high
        voxels = slices.transpose(2, 1, 0)
        if voxels.size > SAMPLE:
            draw = np.random.default_rng(0)
            voxels = voxels[tuple(draw.integers(0, n, SAMPLE) for n in voxels.shape)]
        first, last = (float(v) for v in np.percentile(voxels, (low, high)))
        if not last - first > 1e-6 * max(abs(first), abs(last)):
            first, last = float(slices.min()), float(slices.max())
        separable = last - first > 1e-6 * max(abs(first), abs(last))
        return first, last if separable else first + max(1.0, abs(first))

    def _inner(self, shape: tuple[int, ...], spacing: tuple[float, float]) -> tuple[tuple[int, int], tuple[int, int]]:
        """The rows and columns of the square that a slice covers, and the padding above it and left of it."""
        mm = (shape[0] * spacing[0], shape[1] * spacing[1])
        pads = [min(round((self.size - side * self.size / max(mm)) / 2), (self.size - 1) // 2) for side in mm]
        return (self.size - 2 * pads[0], self.size - 2 * pads[1]), (pads[0], pads[1])


def _resize(planes: Floats, shape: tuple[int, int]) -> Floats:
    """Planes (N, H, W) → (N, *shape), bilinear between pixel centres, anti-aliased where they shrink."""
    rows, columns = (_weights(*sides) for sides in zip(planes.shape[1:], shape, strict=True))
    return np.asarray(rows @ planes @ columns.T, dtype=np.float32)


def _weights(source: int, target: int) -> Floats:
    """(target, source) weights of the pixels of a row in each pixel of the resized row."""
    centres = (np.arange(target)[:, None] + 0.5) * source / target
    distance = np.abs(np.arange(source) + 0.5 - centres) / max(source / target, 1)
    weights = np.maximum(0, 1 - distance)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float32)


def _filter(classes: Classes, number: int, keep: str, reach: int) -> None:
    """Set what is not kept of a class to background, in place: see `keep` in recipe.json."""
    mask: Bools = classes == number
    if keep == "all" or not mask.any():
        return
    kept = _largest(_core(mask, reach) if keep == "core" else mask)
    classes[mask & ~kept] = 0


def _core(mask: Bools, reach: int) -> Bools:
    """The mask without what hangs on it by thin connections: near its largest component after erosion."""
    eroded: Bools = ndimage.binary_erosion(ndimage.binary_erosion(mask, CROSS, iterations=reach), ACROSS)
    if not eroded.any():
        return mask
    grown = ndimage.binary_dilation(_largest(eroded), CROSS, iterations=reach + 1)
    near: Bools = ndimage.binary_dilation(grown, ACROSS, iterations=2) & mask
    return near


def _largest(mask: Bools) -> Bools:
    """The largest component, 26-connected; of equals the first."""
    components, count = ndimage.label(mask, structure=CUBE)
    if count < 2:
        return mask
    largest: Bools = components == 1 + np.bincount(components.ravel())[1:].argmax()
    return largest
