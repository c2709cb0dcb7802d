from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given

from frugalseg.errors import ScanError
from frugalseg.imaging.volume import CANONICAL, Volume, axial_slices, canonical
from tests.imaging.scans import affines, make_affine, numbered

import nibabel as nib  # isort: skip


def value_at(volume: Volume, world: npt.NDArray[np.float64]) -> float:
    x, y, z = np.rint(np.linalg.inv(volume.affine) @ [*world, 1])[:3].astype(int)
    return float(volume.array[x, y, z])


@given(affines(sheared=True))
def test_a_place_in_the_patient_keeps_its_value(affine: npt.NDArray[np.float64]) -> None:
    volume = Volume(numbered(), affine)
    upright, reorientation = canonical(volume)
    for index in np.ndindex(volume.array.shape):
        world = (affine @ [*index, 1])[:3]
        assert value_at(upright, world) == volume.array[index]
    assert np.array_equal(reorientation.undo(upright.array), volume.array)
    assert reorientation.undo(upright.array).shape == volume.array.shape


@pytest.mark.parametrize("orientation", range(48))
def test_every_orientation_becomes_canonical_and_comes_back(orientation: int) -> None:
    volume = Volume(numbered(), make_affine(orientation, (1, 2, 3), (5, -8, 10), (7, 8, 9)))
    upright, reorientation = canonical(volume)
    assert nib.aff2axcodes(upright.affine) == CANONICAL
    assert np.array_equal(reorientation.undo(upright.array), volume.array)
    again, _ = canonical(upright)
    assert np.array_equal(again.array, upright.array)


def test_axial_slices_show_anterior_on_top_and_right_on_the_left() -> None:
    volume = Volume(numbered(), np.eye(4))  # axes R, A, S: canonical flips the first two
    stack = axial_slices(canonical(volume)[0].array)
    assert stack.shape == (5, 4, 3)
    assert stack[0, 0, 0] == volume.array[-1, -1, 0]
    assert np.array_equal(axial_slices(stack), canonical(volume)[0].array)


@pytest.mark.parametrize(
    ("array", "affine", "words"),
    [
        (np.zeros((2, 2)), np.eye(4), "2 dimensions"),
        (np.zeros((2, 2, 2, 2)), np.eye(4), "4 dimensions"),
        (np.zeros((2, 0, 2)), np.eye(4), "empty"),
        (np.zeros((2, 2, 2)), np.diag([1, 0, 1, 1]), "zero spacing"),
        (np.zeros((2, 2, 2)), np.full((4, 4), np.nan), "not a finite"),
        (np.zeros((2, 2, 2)), np.ones((4, 4)), "parallel"),
    ],
)
def test_what_is_no_volume_is_refused(
    array: npt.NDArray[np.float64], affine: npt.NDArray[np.float64], words: str
) -> None:
    with pytest.raises(ScanError, match=words):
        Volume(array, affine)


def test_grids_differ_by_shape_and_by_place() -> None:
    volume = Volume(numbered(), np.eye(4))
    moved = np.eye(4)
    moved[0, 3] = 0.5
    assert volume.same_grid(Volume(numbered(), np.eye(4) + 1e-6))
    assert not volume.same_grid(Volume(numbered(), moved))
    assert not volume.same_grid(Volume(numbered((4, 3, 5)), np.eye(4)))
