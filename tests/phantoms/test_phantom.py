from __future__ import annotations

import sys

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from frugalseg.errors import DiskError, OptionError
from frugalseg.imaging.volume import Volume, canonical
from frugalseg.phantoms.canvas import Wave
from frugalseg.phantoms.cohort import (
    LABELS,
    PhantomOptions,
    cohort_seed,
    make_phantom,
    paint_patient,
    scan_noise,
    write_cohort,
)
from frugalseg.phantoms.patient import draw_patient
from frugalseg.phantoms.tissue import PHASES, TISSUES

phantom_module = sys.modules[make_phantom.__module__]
SMALL = PhantomOptions(shape=(64, 64, 24))
SEEDS = range(10)


@pytest.fixture(scope="module")
def cohort() -> list[tuple[Volume, Volume]]:
    return [make_phantom(seed, SMALL) for seed in SEEDS]


@pytest.fixture(scope="module")
def painted() -> list[tuple[np.ndarray, np.ndarray]]:
    return [paint_patient(draw_patient(seed), SMALL) for seed in SEEDS]


def ras_centre(labels: Volume, organ: str) -> np.ndarray:
    index = np.argwhere(labels.array == LABELS[organ]).mean(axis=0)
    return labels.affine[:3, :3] @ index + labels.affine[:3, 3]


def millilitres(labels: Volume, organ: str) -> float:
    return float((labels.array == LABELS[organ]).sum() * np.prod(labels.spacing) / 1000)


def test_one_seed_is_one_patient() -> None:
    for first, second in zip(make_phantom(3, SMALL), make_phantom(3, SMALL), strict=True):
        np.testing.assert_array_equal(first.array, second.array)


def test_other_seeds_are_other_patients(cohort) -> None:
    for a in range(len(cohort)):
        for b in range(a):
            apart = (cohort[a][1].array != cohort[b][1].array).mean()
            assert apart > 0.005, f"seeds {a} and {b} have nearly the same anatomy"


def test_types_grid_and_axes(cohort) -> None:
    image, labels = cohort[0]
    assert image.array.dtype == np.int16
    assert labels.array.dtype == np.uint8
    assert image.array.shape == SMALL.shape
    assert image.same_grid(labels)
    assert nib.aff2axcodes(image.affine) == ("L", "P", "S")
    np.testing.assert_array_equal(canonical(image)[0].array, image.array)
    assert image.spacing == pytest.approx((6, 6, 10))


def test_hu_stay_in_the_range_of_a_scanner(cohort) -> None:
    for image, _ in cohort:
        assert image.array.min() >= -1024
        assert 300 < image.array.max() <= 1500


def test_every_label_is_there_and_no_other(cohort) -> None:
    for _, labels in cohort:
        assert set(np.unique(labels.array)) == {0, *LABELS.values()}


def test_liver_hu_follow_the_phase() -> None:
    allowed = {"native": (47, 66), "arterial": (62, 82), "portal": (92, 120)}
    seen = set()
    for seed in range(14):
        image, labels = make_phantom(seed, SMALL)
        phase = draw_patient(seed).phase
        seen.add(phase)
        low, high = allowed[phase]
        assert low < np.median(image.array[labels.array == LABELS["liver"]]) < high, f"seed {seed}, {phase}"
    assert seen == set(PHASES)


@pytest.mark.parametrize(
    ("tissue", "low", "high"), [("lung", -900, -600), ("bone", 150, 700), ("fat", -130, -70), ("muscle", 30, 80)]
)
def test_hu_of_tissues(cohort, painted, tissue, low, high) -> None:
    for (image, _), (_, tissues) in zip(cohort, painted, strict=True):
        # Away from the surface: what a reader would measure with a region of interest.
        mask = tissues == TISSUES[tissue]
        mask = ndimage.binary_erosion(mask) if tissue != "bone" else mask
        assert low < np.median(image.array[mask]) < high


def test_air_around_the_body(cohort) -> None:
    for image, _ in cohort:
        corner = image.array[:5, :5]
        assert np.median(corner) == pytest.approx(-1000, abs=5)
        assert corner.std() > 1, "air has noise too"


def test_organs_have_human_sizes(cohort) -> None:
    limits = {"liver": (1100, 2100), "spleen": (40, 350), "stomach": (80, 500)}
    limits |= {"right_kidney": (90, 230), "left_kidney": (90, 230), "gallbladder": (12, 70), "aorta": (35, 130)}
    for seed, (_, labels) in zip(SEEDS, cohort, strict=True):
        for organ, (low, high) in limits.items():
            assert low < millilitres(labels, organ) < high, f"{organ} of seed {seed}"
        assert max(LABELS, key=lambda organ: millilitres(labels, organ)) == "liver"


def test_every_organ_is_in_one_piece(cohort) -> None:
    for seed, (_, labels) in zip(SEEDS, cohort, strict=True):
        for organ, number in LABELS.items():
            assert ndimage.label(labels.array == number)[1] == 1, f"{organ} of seed {seed}"


def test_laterality(cohort, painted) -> None:
    for (_, labels), (_, tissues) in zip(cohort, painted, strict=True):
        centre = {organ: ras_centre(labels, organ) for organ in LABELS}
        right, anterior, superior = range(3)
        assert centre["liver"][right] > centre["aorta"][right] + 20
        assert centre["spleen"][right] < centre["aorta"][right] - 40
        assert centre["stomach"][right] < centre["liver"][right] - 40
        assert centre["right_kidney"][right] > 30
        assert centre["left_kidney"][right] < -30
        assert centre["inferior_vena_cava"][right] > centre["aorta"][right]
        bone = np.argwhere(tissues == TISSUES["bone"])
        spine = bone[np.abs(bone[:, 0] - SMALL.shape[0] / 2) < 4].mean(axis=0)
        spine = labels.affine[:3, :3] @ spine + labels.affine[:3, 3]
        assert spine[anterior] < centre["aorta"][anterior] - 10
        lungs = np.argwhere(tissues == TISSUES["lung"]).mean(axis=0)
        lungs = labels.affine[:3, :3] @ lungs + labels.affine[:3, 3]
        assert lungs[superior] > centre["liver"][superior] + 30


@pytest.mark.parametrize("shape", [(64, 64, 24), (48, 48, 12)])
def test_slices_without_liver_at_both_ends(shape) -> None:
    for seed in range(12):
        _, labels = make_phantom(seed, PhantomOptions(shape))
        liver = (labels.array == LABELS["liver"]).any(axis=(0, 1))
        assert not liver[0]
        assert not liver[-1]
        assert 0.4 < liver.mean() < 0.9


def test_noise_is_correlated_within_a_slice_and_not_between() -> None:
    options = PhantomOptions(shape=(96, 96, 12))
    patient = draw_patient(1)
    noise = scan_noise(patient, options)
    middle = noise[32:64, 32:64]
    assert 8 < middle.std() < 25
    across = np.corrcoef(middle[:-1].ravel(), middle[1:].ravel())[0, 1]
    along = np.corrcoef(middle[:, :-1].ravel(), middle[:, 1:].ravel())[0, 1]
    between = np.corrcoef(middle[..., :-1].ravel(), middle[..., 1:].ravel())[0, 1]
    assert across > along + 0.05, "streaks run across the body"
    assert across > 0.1
    assert abs(between) < 0.05


def test_noise_in_the_image_is_the_noise_that_was_drawn(cohort, painted) -> None:
    for seed, (image, labels), (clean, _) in zip(SEEDS, cohort, painted, strict=True):
        liver = labels.array == LABELS["liver"]
        assert 8 < (image.array - clean)[liver].std() < 25, f"seed {seed}"


def test_liver_varies_between_patients(cohort) -> None:
    volumes = [millilitres(labels, "liver") for _, labels in cohort]
    centres = np.array([ras_centre(labels, "liver") for _, labels in cohort])
    assert np.std(volumes) > 60
    assert (centres.std(axis=0) > 2.5).all()


def test_same_patient_on_other_grids() -> None:
    _, coarse = make_phantom(5, PhantomOptions((48, 48, 12)))
    _, fine = make_phantom(5, PhantomOptions((96, 96, 60)))
    for organ in ("liver", "spleen", "right_kidney"):
        assert millilitres(coarse, organ) == pytest.approx(millilitres(fine, organ), rel=0.12)
        np.testing.assert_allclose(ras_centre(coarse, organ), ras_centre(fine, organ), atol=4)


def test_slabs_leave_no_seam(monkeypatch) -> None:
    patient = draw_patient(2)
    whole = paint_patient(patient, SMALL)
    monkeypatch.setattr(phantom_module, "SLAB_VOXELS", 64 * 64 * 7)
    for one, other in zip(whole, paint_patient(patient, SMALL), strict=True):
        np.testing.assert_allclose(one, other, atol=0.1)


def test_a_spacing_crops_the_field_of_view() -> None:
    options = PhantomOptions(shape=(40, 40, 5), spacing=(4, 4, 5))
    image, labels = make_phantom(0, options)
    assert image.spacing == pytest.approx((4, 4, 5))
    assert (labels.array == LABELS["liver"]).any()


@pytest.mark.parametrize("grid", [{"shape": (0, 8, 8)}, {"shape": (8, 8, 8), "spacing": (1.0, 0.0, 1.0)}])
def test_impossible_grids_are_refused(grid) -> None:
    with pytest.raises(OptionError, match="no voxels"):
        PhantomOptions(**grid)


def test_write_cohort(tmp_path) -> None:
    options = PhantomOptions(shape=(32, 32, 8))
    images, labels = write_cohort(tmp_path / "scans", 3, 7, options)
    names = [f"phantom_{case:02d}.nii.gz" for case in range(3)]
    assert sorted(path.name for path in images.iterdir()) == names
    assert sorted(path.name for path in labels.iterdir()) == names
    image, mask = make_phantom(cohort_seed(7, 1), options)
    stored, stored_mask = nib.load(images / names[1]), nib.load(labels / names[1])
    np.testing.assert_array_equal(np.asanyarray(stored.dataobj), image.array)
    np.testing.assert_array_equal(np.asanyarray(stored_mask.dataobj), mask.array)
    np.testing.assert_allclose(stored.affine, image.affine, atol=1e-4)
    assert stored.header.get_xyzt_units()[0] == "mm"


def test_write_cohort_says_when_the_folder_cannot_be_written(tmp_path, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nib, "save", full)
    with pytest.raises(DiskError, match="no space left"):
        write_cohort(tmp_path, 1, 0, PhantomOptions((16, 16, 4)))


def test_a_wave_is_the_same_on_every_grid() -> None:
    wave = Wave.draw(np.random.default_rng(0), 3.0, (50, 90))
    axis = np.linspace(-50, 50, 21, dtype=np.float32)
    fine, coarse = wave.sample((axis, axis, axis)), wave.sample((axis[::2], axis, axis))
    np.testing.assert_allclose(fine[::2], coarse, rtol=1e-6)
    assert np.abs(fine).max() <= 3.0
