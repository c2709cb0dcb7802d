"""One broken file never ends `prepare`, and with --skip-broken the others become the store."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from frugalseg.dataset.prepare import prepare
from frugalseg.errors import ScanError
from frugalseg.options import PrepareOptions
from tests.imaging.test_headers import META, NRRD
from tests.scans import write_cohort

HOSTILE = {
    "axes.nrrd": NRRD.replace("dimension: 3", "dimension: 99999999999"),
    "format.nrrd": NRRD.replace("kinds: domain domain domain", "kinds: %s%n%d %s%n%d %s%n%d"),
    "long.nrrd": NRRD.replace("kinds: domain domain domain", "space units: " + '"mm" ' * 2000),
    "infinite.mha": META.replace("1 0 0 0 1 0 0 0 1", "inf inf inf inf inf inf inf inf inf"),
    "large.mha": META.replace("DimSize = 4 4 4", "DimSize = 1400 1400 1300"),
    "many.mha": META.replace("NDims = 3", "NDims = 99999999999"),
}


@pytest.fixture
def cohort(tmp_path: Path) -> tuple[Path, Path]:
    images, labels = write_cohort(tmp_path, 4)
    for name, header in HOSTILE.items():
        (images / name).write_bytes(header.encode() + bytes(128))
    flat = np.diag([1.0, 1, 1, 1])
    flat[:3, 2] = (1, 0, 1e-6)
    nib.save(nib.Nifti1Image(np.ones((32, 32, 12), np.int16), flat), images / "flat.nii")
    return images, labels


def options(cohort: tuple[Path, Path], out: Path, **more: object) -> PrepareOptions:
    images, labels = cohort
    return PrepareOptions(images=images, labels=labels, target=["liver=6"], out=out, size=32, workers=2, **more)  # type: ignore[arg-type]


def test_broken_files_are_named_all_at_once(cohort: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ScanError, match="7 of 11 scans cannot be prepared") as caught:
        prepare(options(cohort, tmp_path / "store"))
    assert all(name in caught.value.problem for name in (*HOSTILE, "flat.nii"))


def test_broken_files_are_left_out_on_demand(cohort: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="7 of 11 scans cannot be prepared"):
        store = prepare(options(cohort, tmp_path / "store", skip_broken=True))
    assert [scan.case for scan in store.record.scans] == [f"scan_{i:02d}" for i in range(4)]
