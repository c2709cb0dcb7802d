"""From which slice is a mask best propagated? Dice in the rest of the organ, for each way to choose one slice.

    python benchmarks/choose_for_mask.py STORE CASE … >> FILE.csv

The reference of the slice is moved from slice to slice by the registration that `frugalseg propagate` uses (without a
promptable model, which costs much more), over the organ's extent and four slices beyond. Every slice that shows
the organ is tried. The extent, which a user's model would give, is that of the reference.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

from frugalseg.dataset.descriptors import describe_slices
from frugalseg.dataset.store import SliceStore
from frugalseg.propagation.registration import displacement, warp
from frugalseg.suggestion.for_mask import choose_for_mask

BEYOND, MOST_MM = 4, 10.0
COLUMNS = ("store", "case", "way", "slice", "dice")


def propagate_from_each(
    images: npt.NDArray[np.float32], shown: npt.NDArray[np.bool_], pixel_mm: tuple[float, float]
) -> dict[int, float]:
    """Slice that shows the organ → Dice in the others, if its reference is moved through the scan."""
    extent = np.flatnonzero(shown.any(axis=(1, 2)))
    low, high = max(0, extent[0] - BEYOND), min(len(images), extent[-1] + 1 + BEYOND)
    up = {z: displacement(images[z], images[z + 1], pixel_mm, MOST_MM) for z in range(low, high - 1)}
    down = {z: displacement(images[z], images[z - 1], pixel_mm, MOST_MM) for z in range(low + 1, high)}
    found = {}
    for start in extent.tolist():
        moved = np.zeros(shown.shape, np.float32)
        moved[start] = shown[start]
        for z in range(start, high - 1):
            moved[z + 1] = warp(moved[z], up[z])
        for z in range(start, low, -1):
            moved[z - 1] = warp(moved[z], down[z])
        mask, others = moved > 0.5, np.setdiff1d(np.arange(low, high), [start])
        sizes = np.count_nonzero(mask[others]) + np.count_nonzero(shown[others])
        found[start] = 2 * np.count_nonzero((mask & shown)[others]) / sizes
    return found


def choose(store: SliceStore, rows: npt.NDArray[np.int64], area: npt.NDArray[np.int64]) -> dict[str, int]:
    """Way → the slice that it chooses."""
    extent, features = np.flatnonzero(area), describe_slices(store.images, rows)
    weights = {
        "suggested": area > 0,
        "suggested, slices weighted by area": area,
        "suggested, extent not known": np.ones(len(area)),
    }
    suggested = {
        way: choose_for_mask(np.arange(len(rows)), features, 1, weight.astype(float), None)[0].row
        for way, weight in weights.items()
    }
    # As a person would: a slice without the organ is replaced by the nearest one with it.
    nearest = {way: int(extent[np.abs(extent - z).argmin()]) for way, z in suggested.items()}
    return {**nearest, "middle": int(extent[len(extent) // 2]), "largest area": int(area.argmax())}


def main() -> None:
    """Print one line of CSV per scan and way."""
    store, writer = SliceStore.open(Path(sys.argv[1])), csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(COLUMNS)
    for case in sys.argv[2:]:
        table = store.slices[store.slices["case"] == case]
        rows = table.index.to_numpy(np.int64)
        shown = np.asarray(store.labels[rows]) > 0
        pixel_mm = (float(table["row_mm"].iloc[0]), float(table["column_mm"].iloc[0]))
        dice = propagate_from_each(np.asarray(store.images[rows], np.float32), shown, pixel_mm)
        for way, z in choose(store, rows, shown.sum(axis=(1, 2))).items():
            writer.writerow([store.folder.name, case, way, z, round(dice[z], 4)])
        best = max(dice, key=dice.__getitem__)
        writer.writerow([store.folder.name, case, "best of all", best, round(dice[best], 4)])
        writer.writerow([store.folder.name, case, "mean of all", "", round(float(np.mean(list(dice.values()))), 4)])
        sys.stdout.flush()


if __name__ == "__main__":
    main()
