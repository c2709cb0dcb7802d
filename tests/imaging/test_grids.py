"""One grid a case: masks with other axes are turned, rounding is borne, everything else is refused in words."""

from __future__ import annotations

import warnings

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from frugalseg.errors import PairingError
from frugalseg.imaging.grids import onto_grid
from frugalseg.imaging.validation import ScanWarning
from frugalseg.imaging.volume import Reorientation, Volume, canonical, nearest_axes
from tests.imaging.scans import ORIENTATIONS, affines, make_affine, numbered

Affine = npt.NDArray[np.float64]
TIES = [make_affine(o, (2, 2, 2.5), angles) for o in range(48) for angles in ((45, 0, 0), (0, 45, 0), (0, 0, -45))]


def turned(volume: Volume, orientation: int) -> Volume:
    """The same voxels at the same places, stored with other axes."""
    order, signs = ORIENTATIONS[orientation]
    return Reorientation(np.array(list(zip(order, signs, strict=True)), float)).apply(volume)


def noisy(affine: Affine, seed: int, size: float = 1e-6) -> Affine:
    noise = np.random.default_rng(seed).uniform(-size, size, (4, 4))
    noise[3] = 0
    return affine + noise


@given(
    affine=st.one_of(affines(sheared=True), st.sampled_from(TIES)),
    orientation=st.integers(0, 47),
    seed=st.integers(0, 2**16),
)
def test_a_mask_with_any_axes_comes_onto_its_scan(affine: Affine, orientation: int, seed: int) -> None:
    scan = Volume(numbered(), affine)
    stored = turned(scan, orientation)
    mask = Volume(stored.array, noisy(stored.affine, seed))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        brought = onto_grid(mask, scan, "a")
    assert np.array_equal(brought.array, scan.array)
    assert np.array_equal(brought.affine, scan.affine)


@given(affine=st.one_of(affines(), st.sampled_from(TIES)), seed=st.integers(0, 2**16))
def test_rounding_never_decides_which_way_is_up(affine: Affine, seed: int) -> None:
    assert np.array_equal(nearest_axes(affine), nearest_axes(noisy(affine, seed)))


@pytest.mark.parametrize("degrees", [45, -45, 45 - 1e-5, 45 + 1e-5, 135])
@pytest.mark.parametrize("axis", range(3))
def test_at_45_degrees_the_axes_keep_the_order_of_the_file(degrees: float, axis: int) -> None:
    angles = [0.0, 0.0, 0.0]
    angles[axis] = degrees
    assert nearest_axes(make_affine(0, (1, 1, 2), angles))[:, 0].tolist() == [0, 1, 2]


@given(st.integers(0, 2**32 - 1))
def test_of_any_rotation_the_best_axes_are_taken(seed: int) -> None:
    """No other permutation fits better, and no axis is named after one it hardly runs along."""
    cosines = Rotation.random(rng=np.random.default_rng(seed)).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = cosines * [1, 2, 3]
    axes, senses = nearest_axes(affine).T
    named = cosines[axes.astype(int), range(3)] * senses
    assert named.min() > 0.3
    assert all(np.abs(cosines[list(order), range(3)]).sum() <= named.sum() + 2e-3 for order, _ in ORIENTATIONS[::8])


@given(affines(sheared=True))
def test_clear_axes_are_those_of_nibabel(affine: Affine) -> None:
    cosines = np.abs(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0))
    if cosines.max(axis=0).min() > 0.9:
        assert np.array_equal(nearest_axes(affine), nib.orientations.io_orientation(affine))


@pytest.mark.parametrize(
    "affine", [np.diag([-0.78125, -0.78125, 2, 1]), make_affine(13, (0.02, 0.02, 0.05), (45, 0, 0))]
)
@pytest.mark.parametrize("axis", range(3))
def test_less_than_a_tenth_of_a_voxel_is_borne_and_said(affine: Affine, axis: int) -> None:
    """In voxels, not in mm: a hundredth of a mm is half a voxel of a micro-CT."""

    def shifted(voxels: float) -> Volume:
        moved = affine.copy()
        moved[:3, 3] += voxels * affine[:3, axis]
        return Volume(numbered(), moved)

    scan = Volume(numbered(), affine)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        onto_grid(shifted(0.009), scan, "a")
    mm = 0.05 * scan.spacing[axis]
    with pytest.warns(ScanWarning, match=rf"case_7: image and labels.*first voxel by.*{mm:.3g} mm \(0.05 voxels\)"):
        taken = onto_grid(shifted(0.05), scan, "case_7")
    assert np.array_equal(taken.affine, scan.affine)
    with pytest.raises(PairingError, match=rf"{0.5 * scan.spacing[axis]:.3g} mm \(0.5 voxels\)"):
        onto_grid(shifted(0.5), scan, "a")


def test_what_differs_is_said_in_words() -> None:
    image = Volume(numbered((64, 64, 16), np.int32), make_affine(0, (0.75, 0.75, 2)))
    tilted = make_affine(0, (0.75, 0.75, 2), (0, 0, 3))
    thicker = make_affine(0, (0.75, 0.75, 2.5))
    for labels, words in (
        (Volume(image.array, tilted), ["directions by 3°"]),
        (Volume(image.array, thicker), ["spacing by (0, 0, 0.5) mm", "differ by up to 7.5 mm (3.8 voxels)"]),
        (Volume(image.array[..., 1:], image.affine), ["64×64×15 instead of 64×64×16 voxels"]),
    ):
        with pytest.raises(PairingError) as caught:
            onto_grid(labels, image, "case_7")
        problem = caught.value.problem
        assert problem.startswith("case_7: image and labels are on different grids: ")
        assert all(word in problem for word in [*words, image.describe_grid(), labels.describe_grid()])
        assert not any(
            word in problem for word in ("spacing by", "directions by", "first voxel by") if word not in words[0]
        )


def test_grids_that_print_alike_are_told_apart() -> None:
    image, labels = (
        Volume(numbered(), make_affine(0, (s, 1, 1), origin=(o, 0, 0))) for s, o in ((1, 0), (1.0002, 0.02))
    )
    assert image.describe_grid() != labels.describe_grid()


def test_one_way_up_for_a_scan_at_45_degrees_and_its_mask() -> None:
    """The mask's header was rounded to the other side of 45°: its slices are those of the scan all the same."""
    scan, mask = (Volume(numbered(), make_affine(0, (2, 2, 2), (45 + by, 0, 0))) for by in (-1e-5, 1e-5))
    assert nib.aff2axcodes(scan.affine) != nib.aff2axcodes(mask.affine)
    upright, reorientation = canonical(scan)
    assert np.array_equal(reorientation.apply(onto_grid(mask, scan, "a")).array, upright.array)
    assert np.array_equal(canonical(mask)[0].array, upright.array)
