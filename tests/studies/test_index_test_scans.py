"""The index of scans that are only used for testing."""

from __future__ import annotations

import pytest

from frugalseg.errors import OptionError, ScanError
from frugalseg.options import PrepareOptions
from frugalseg.records.scan_index import ScanIndex
from frugalseg.studies.jobs.index_test_scans import index_test_scans
from tests.scans import write_cohort


def index(folder, **more):
    given = {"labels": folder / "labels", "target": ["liver=6"], "workers": 0} | more
    options = PrepareOptions(images=given.pop("images", folder / "images"), out=folder / "index.json", **given)
    index_test_scans(options)
    return ScanIndex.read(options.out)


def test_unreadable_scans_are_named_and_skipped_only_where_the_plan_says_so(tmp_path):
    images, _ = write_cohort(tmp_path, 3, shape=(32, 32, 6))
    broken = images / "scan_01.nii.gz"
    broken.write_bytes(broken.read_bytes()[:200])
    with pytest.raises(ScanError, match=r"1 of 3 scans cannot be prepared:\n.*scan_01") as raised:
        index(tmp_path)
    assert raised.value.cure == "repair or remove them, or set skip_broken: true"
    for _ in range(2):  # a known index does not silence it
        with pytest.warns(UserWarning, match=r"(?s)1 of 3 scans cannot be prepared:\n.*scan_01.*they are excluded"):
            found = index(tmp_path, skip_broken=True)
        assert [scan.case for scan in found.scans] == ["scan_00", "scan_02"]


def test_identical_scans_of_two_patients_stay_together_and_are_named(tmp_path):
    images, _ = write_cohort(tmp_path, 4, shape=(32, 32, 6))
    (images / "scan_03.nii.gz").write_bytes((images / "scan_00.nii.gz").read_bytes())
    with pytest.warns(UserWarning, match="patients scan_00, scan_03 have an identical scan"):
        split = index(tmp_path).split
    assert split.part_by_patient()["scan_00"] == split.part_by_patient()["scan_03"]


@pytest.mark.parametrize("ending", ["", "Tr"])
def test_a_value_of_no_mask_names_the_folder_of_the_masks(tmp_path, ending):
    for folder in write_cohort(tmp_path, 2, shape=(32, 32, 6)):
        folder.rename(tmp_path / f"{folder.name}{ending}")
    raw = {"images": tmp_path, "labels": None} if ending else {}
    with pytest.raises(OptionError) as raised:
        index(tmp_path, target=["liver=7"], **raw)
    assert f"is in none of the masks of {tmp_path / f'labels{ending}'} (they hold 1, 6)" in raised.value.problem
