"""What a scan is found to be: by its files, else by its values."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest

from frugalseg.imaging.find import find_scans
from frugalseg.imaging.modality import find_modality, guess_modality, read_declared_modality
from frugalseg.imaging.read import read_volume
from tests.imaging.scans import write_series
from tests.scans import tiny_scan

RNG = np.random.default_rng(0)
BODY = np.where(RNG.random((30, 30, 30)) < 0.5, -1000, RNG.normal(40, 30, (30, 30, 30)))
MAGNITUDE = RNG.gamma(2, 200, (30, 30, 30))


def _padded(array: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    padded = array.copy()
    padded[:10] = -3024
    return padded


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (BODY, "ct"),
        (BODY.astype(np.int16), "ct"),
        (BODY.clip(-125, 275), "ct"),
        (BODY.clip(-40, 160), "ct"),
        (_padded(BODY), "ct"),  # what the scanner did not see is filled
        ((BODY + 1024).clip(0).astype(np.uint16), "mr"),  # without its offset no window in HU fits
        (MAGNITUDE, "mr"),
        (MAGNITUDE.astype(np.uint8), "mr"),
        (np.where(RNG.random(MAGNITUDE.shape) < 0.0005, -50, MAGNITUDE), "mr"),  # ringing of an interpolation
        ((MAGNITUDE - MAGNITUDE.mean()) / MAGNITUDE.std(), "mr"),
        (RNG.integers(-4096, 4095, (30, 30, 30)), "mr"),  # phase
        (np.where(RNG.random(MAGNITUDE.shape) < 0.005, -50, MAGNITUDE), None),
        (np.full((5, 5, 5), -1000), None),
        (np.zeros((5, 5, 5)), None),
    ],
)
def test_values_tell(array: npt.NDArray[np.generic], kind: str | None) -> None:
    found = guess_modality(array)
    assert found.kind == kind
    assert f"{array.min():g}" in found.why


@pytest.mark.parametrize(
    ("tag", "kind"), [("CT", "ct"), ("MR", "mr"), ("PT", "mr"), ("NM", "mr"), ("XA", None), ("", None), (None, None)]
)
def test_dicom_tells(tmp_path: Path, tag: str | None, kind: str | None) -> None:
    files = write_series(tmp_path / "a", Modality=tag)
    for path in (tmp_path / "a", files[0]):
        declared = read_declared_modality(path)
        assert (declared and declared.kind) == kind
        # Pixels from 0 on look like MR where the tag says nothing.
        assert find_modality(path, read_volume(path)).kind == (kind or "mr")


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ({"channel_names": {"0": "CT"}}, "ct"),
        ({"modality": {"0": "CT"}}, "ct"),
        ({"modality": {"0": "MRI"}}, "mr"),
        ({"modality": ["T2-weighted"]}, "mr"),
        ({"channel_names": {"0": "T2 MRI"}}, "mr"),
        ({"channel_names": {"0": "FLAIR", "1": "CT"}}, "mr"),
        ({"channel_names": {"0": "PET/CT"}}, None),
        ({"channel_names": {"0": "noNorm"}}, None),
        ({"channel_names": "CT"}, None),
        ({"channel_names": {"0": None}}, None),
        ([], None),
        ("{", None),
    ],
)
def test_a_raw_data_set_tells(tmp_path: Path, content: object, kind: str | None) -> None:
    images = tmp_path / "Dataset001_X" / "imagesTr"
    images.mkdir(parents=True)
    path = images / "a_0000.nii.gz"
    nib.save(nib.Nifti1Image(tiny_scan(0)[0], np.eye(4)), path)
    (images.parent / "dataset.json").write_text(content if isinstance(content, str) else json.dumps(content))
    declared = read_declared_modality(path)
    assert (declared and declared.kind) == kind
    assert find_modality(path, read_volume(path)).kind == (kind or "ct")
    # A dataset.json beside another folder says nothing of it.
    elsewhere = images.rename(images.with_name("scans")) / path.name
    assert read_declared_modality(elsewhere) is None


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("btcv_ct/images", "ct"),
        ("lits_ct/images", "ct"),
        ("full_resolution/images", "ct"),
        ("chaos_mr_t2/images", "mr"),
        ("hippocampus_mr/images", "mr"),
        ("totalsegmentator_example/example_ct.nii.gz", "ct"),
        ("totalsegmentator_example/example_mr_sm.nii.gz", "mr"),
        ("totalsegmentator_example/dicom_ct", "ct"),
    ],
)
def test_real_scans_are_what_they_are(shared_data: Path, folder: str, kind: str) -> None:
    for path in list(find_scans(shared_data / folder).values())[:5]:
        array = read_volume(path).array
        assert guess_modality(array).kind == kind, path
        if kind == "ct":
            assert guess_modality((array.astype(np.int32) + 1024).clip(0)).kind == "mr"
