"""Volume, intensity and extent of each organ of a mask, without a reference."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import numpy.typing as npt

from frugalseg.engine.files import atomic_write, write_json
from frugalseg.imaging.volume import Volume, axial_slices, canonical
from frugalseg.records.predictions import TargetValues
from frugalseg.records.statistics import OrganStatistics

Floats = npt.NDArray[np.float64]

STATISTICS = "statistics"
"""Name of the files, without suffix."""

HEAD = (
    *("case", "organ", "voxels", "volume_ml", "mean", "sd"),
    *("extent_left_right_mm", "extent_front_back_mm", "extent_head_feet_mm", "slices"),
)


def measure_organs(scan: Volume, mask: Volume, organs: TargetValues) -> dict[str, OrganStatistics]:
    """Organ → its statistics, of a mask on the grid of the scan; every organ is listed, also one that is not there.

    Slice by slice, so that memory stays below one copy of a slice.
    """
    upright, way = canonical(scan)
    values, labels = axial_slices(upright.array), axial_slices(way.apply(mask).array)
    numbers = _number_values(int(labels.max()), organs)
    sums = np.zeros((3, len(organs) + 1))
    lowest, highest = np.full((len(organs) + 1, 3), np.iinfo(np.int64).max), np.full((len(organs) + 1, 3), -1)
    slices = np.zeros(len(organs) + 1, np.int64)
    for z, plane in enumerate(labels):
        if not plane.any():
            continue
        rows, columns = np.nonzero(plane)
        found = numbers[plane[rows, columns]]
        own = values[z][rows, columns].astype(np.float64)
        sums += [np.bincount(found, weights, len(organs) + 1) for weights in (np.ones_like(own), own, own**2)]
        for number in np.flatnonzero(np.bincount(found)):
            here = found == number
            box = columns[here], rows[here], np.array([z])
            lowest[number] = np.minimum(lowest[number], [axis.min() for axis in box])
            highest[number] = np.maximum(highest[number], [axis.max() for axis in box])
            slices[number] += 1
    extents = np.where(slices[:, None] > 0, (highest - lowest + 1) * np.array(upright.spacing), 0.0)
    voxel_ml = float(abs(np.linalg.det(scan.affine[:3, :3]))) / 1000
    return {
        organ: _summarise(sums[:, number], voxel_ml, extents[number], int(slices[number]))
        for number, organ in enumerate(organs, start=1)
    }


def _number_values(highest: int, organs: TargetValues) -> npt.NDArray[np.int64]:
    """Label value → number of its organ from 1; 0 for a value of none."""
    table = np.zeros(max([highest, *(value for values in organs.values() for value in values)]) + 1, np.int64)
    for number, values in enumerate(organs.values(), start=1):
        table[[value for value in values if value >= 0]] = number
    return table


def _summarise(sums: Floats, voxel_ml: float, extent: Floats, slices: int) -> OrganStatistics:
    count, total, squares = (float(value) for value in sums)
    x, y, z = (round(float(mm), 2) for mm in extent)
    if not count:
        return OrganStatistics(0, 0.0, None, None, (0.0, 0.0, 0.0), 0)
    mean = total / count
    sd = float(np.sqrt(max(0.0, squares / count - mean**2)))
    return OrganStatistics(int(count), round(count * voxel_ml, 4), round(mean, 3), round(sd, 3), (x, y, z), slices)


def write_statistics(out: Path, statistics: Mapping[str, Mapping[str, OrganStatistics]]) -> None:
    """Write statistics.csv, a row for each scan and organ, and statistics.json; raises `DiskError`.

    Args:
        out: the folder of masks.
        statistics: case id → organ → statistics.
    """
    with atomic_write(out / f"{STATISTICS}.csv", "w") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEAD)
        for case, organs in statistics.items():
            for organ, own in organs.items():
                writer.writerow((case, organ, own.voxels, own.volume_ml, own.mean, own.sd, *own.extent_mm, own.slices))
    content = {case: {organ: asdict(own) for organ, own in organs.items()} for case, organs in statistics.items()}
    write_json(out / f"{STATISTICS}.json", content)
