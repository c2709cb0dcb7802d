"""Volume, intensity and extent of organs, against a direct count."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from frugalseg.imaging.volume import Volume, canonical
from frugalseg.masks.statistics import measure_organs, write_statistics
from tests.imaging.scans import make_affine


@pytest.mark.parametrize("orientation", [0, 7, 20, 47])
def test_statistics_are_those_of_the_voxels(orientation: int) -> None:
    rng = np.random.default_rng(orientation)
    affine = make_affine(orientation, (0.8, 1.5, 3.0), (10, 5, -20))
    scan = Volume(rng.normal(40, 30, (12, 10, 9)).astype(np.float32), affine)
    labels = np.zeros(scan.array.shape, np.uint16)
    labels[2:7, 3:9, 1:5] = rng.choice([0, 6, 7, 300], (5, 6, 4))
    found = measure_organs(scan, Volume(labels, affine), {"liver": (6, 7), "spleen": (300,), "none": (9,)})
    for organ, values in {"liver": (6, 7), "spleen": (300,)}.items():
        inside, own = np.isin(labels, values), found[organ]
        assert own.voxels == inside.sum()
        assert own.volume_ml == pytest.approx(inside.sum() * 0.8 * 1.5 * 3 / 1000, abs=1e-4)
        assert own.mean == pytest.approx(scan.array[inside].mean(), abs=2e-3)
        assert own.sd == pytest.approx(scan.array[inside].std(), abs=2e-3)
        upright = canonical(Volume(inside.astype(np.uint8), affine))[0]
        sides = [np.flatnonzero(upright.array.any(axis=other)) for other in ((1, 2), (0, 2), (0, 1))]
        lengths = [(side[-1] - side[0] + 1) * mm for side, mm in zip(sides, upright.spacing, strict=True)]
        assert own.extent_mm == pytest.approx(lengths, abs=0.01)
        assert own.slices == len(sides[2])
    assert (found["none"].voxels, found["none"].volume_ml, found["none"].mean) == (0, 0, None)


def test_values_far_from_zero_keep_their_spread() -> None:
    array = np.full((4, 4, 4), 30000, np.int16)
    array[0] += 2
    mask = Volume(np.ones(array.shape, np.uint8), np.eye(4))
    own = measure_organs(Volume(array, np.eye(4)), mask, {"all": (1,)})["all"]
    assert own.sd == pytest.approx(array.astype(float).std(), abs=1e-3)


def test_both_files_hold_every_organ(tmp_path) -> None:
    mask = Volume(np.ones((4, 4, 4), np.uint8), np.eye(4))
    own = measure_organs(mask, mask, {"liver": (1,), "spleen": (2,)})
    write_statistics(tmp_path, {"p1": own})
    table = pd.read_csv(tmp_path / "statistics.csv")
    assert table[["case", "organ", "voxels"]].to_numpy().tolist() == [["p1", "liver", 64], ["p1", "spleen", 0]]
    assert json.loads((tmp_path / "statistics.json").read_text())["p1"]["liver"]["extent_mm"] == [4, 4, 4]
