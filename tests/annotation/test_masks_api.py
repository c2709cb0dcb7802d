"""Drawing over HTTP: versions, undo, labels, acceptance, and what is written as files."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from frugalseg.errors import DiskError
from frugalseg.imaging.find import find_dataset
from frugalseg.imaging.read import read_labels
from frugalseg.records.annotations import AnnotationsRecord
from tests.annotation.session import disc, put, read_mask
from tests.scans import tiny_scan

SHAPE = (32, 32)


def test_a_case_shows_its_grid_and_its_slices(client):
    case = client.get("/api/cases/scan_00").json()
    assert case["shape"] == [32, 32, 12]
    assert case["spacing"] == pytest.approx([4, 4, 5])
    assert case["orientation"] == "LPS"
    assert [one["slice"] for one in case["slices"]] == list(range(12))
    assert {one["source"] for one in case["slices"]} == {None}
    assert case["windows"][0] == {"name": "abdomen", "low": -160.0, "high": 240.0}


def test_a_picture_holds_the_hu_of_its_slice(client):
    image, _ = tiny_scan(0)
    answer = client.get("/api/cases/scan_00/slices/5/image")
    assert answer.headers["X-Slope"], answer.headers["X-Intercept"] == ("1.0", "0.0")
    shown = np.frombuffer(answer.content, "<i2").reshape(
        int(answer.headers["X-Rows"]), int(answer.headers["X-Columns"])
    )
    np.testing.assert_array_equal(shown, image[:, :, 5].T)
    again = client.get("/api/cases/scan_00/slices/5/image", headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_a_stroke_is_kept_and_counts_as_outlined(client, session):
    answer = put(client, "scan_00", 5, disc(SHAPE), 0)
    assert answer.json() == {"version": 1, "case_version": 1, "source": "outlined"}
    np.testing.assert_array_equal(read_mask(client, "scan_00", 5, SHAPE), disc(SHAPE))
    state = client.get("/api/state").json()
    assert (state["cases"][0]["state"], state["cases"][0]["outlined"]) == ("started", 1)
    assert state["meter"]["slices"] == 1
    row = session.database.one("SELECT annotator, client, tool, seconds FROM strokes")
    assert tuple(row) == ("tester", "tab-1", "brush", 1.5)


def test_the_second_of_two_tabs_is_refused_and_overwrites_nothing(client):
    put(client, "scan_00", 5, disc(SHAPE), 0)
    second = put(client, "scan_00", 5, disc(SHAPE, radius=0.1), 0, **{"X-Client": "tab-2"})
    assert second.status_code == 409
    assert (second.json()["version"], second.json()["by"]) == (1, "tab-1")
    np.testing.assert_array_equal(read_mask(client, "scan_00", 5, SHAPE), disc(SHAPE))


def test_a_second_tab_is_counted(client):
    client.get("/api/cases/scan_00", headers={"X-Client": "tab-1"})
    assert client.get("/api/cases/scan_00", headers={"X-Client": "tab-2"}).json()["others"] == 1
    client.get("/api/cases/scan_01", headers={"X-Client": "tab-1"})
    assert client.get("/api/cases/scan_00", headers={"X-Client": "tab-2"}).json()["others"] == 0


def test_a_stroke_needs_a_version_a_known_label_and_the_right_size(client):
    headers = {"X-Tool": "brush"}
    place = "/api/cases/scan_00/slices/5/mask"
    assert client.put(place, content=bytes(1024), headers=headers).status_code == 428
    assert put(client, "scan_00", 5, disc(SHAPE, value=9), 0).status_code == 422
    assert put(client, "scan_00", 5, disc((31, 32)), 0).status_code == 422
    assert put(client, "scan_00", 12, disc(SHAPE), 0).status_code == 404
    assert put(client, "scan_09", 5, disc(SHAPE), 0).status_code == 404
    assert client.get("/api/cases/scan_00").json()["version"] == 0


def source(client, z=5):
    return client.get("/api/cases/scan_00").json()["slices"][z]["source"]


def test_undoing_the_only_stroke_leaves_an_unlabelled_slice_not_an_empty_outline(client):
    put(client, "scan_00", 5, disc(SHAPE), 0)
    put(client, "scan_00", 5, np.zeros(SHAPE), 1, "eraser")
    assert source(client) == "outlined"  # outlined, and empty: nothing is there
    put(client, "scan_00", 5, disc(SHAPE), 2, "undo")
    assert source(client) == "outlined"
    put(client, "scan_00", 5, np.zeros(SHAPE), 3, "undo")
    assert source(client) is None
    put(client, "scan_00", 5, disc(SHAPE), 4, "redo")
    assert source(client) == "outlined"
    put(client, "scan_00", 5, np.zeros(SHAPE), 5, "redo")
    assert source(client) == "outlined"


def test_undoing_a_correction_gives_back_the_propagated_slice(client, session):
    from frugalseg.annotation.slices import Stroke

    made = Stroke(disc(SHAPE, radius=0.2), "propagate", "job 1", source="propagated", confidence=0.4, review="odd")
    session.open("scan_00")
    session.slices.fill("scan_00", [(5, made)], (None,))
    put(client, "scan_00", 5, disc(SHAPE), 1)
    assert source(client) == "outlined"
    put(client, "scan_00", 5, made.mask, 2, "undo")
    shown = client.get("/api/cases/scan_00").json()["slices"][5]
    assert (shown["source"], shown["confidence"], shown["review"]) == ("propagated", 0.4, "odd")


def test_clearing_a_slice_makes_it_unlabelled(client):
    put(client, "scan_00", 5, disc(SHAPE), 0)
    answer = client.delete("/api/cases/scan_00/slices/5/mask", headers={"If-Match": "1"})
    assert answer.json()["source"] is None
    assert not read_mask(client, "scan_00", 5, SHAPE).any()


def test_an_accepted_slice_is_reviewed_and_an_outlined_one_stays_outlined(client):
    put(client, "scan_00", 5, disc(SHAPE), 0)
    for z in (4, 5):
        assert client.post(f"/api/cases/scan_00/slices/{z}/accept").status_code == 200
    assert (source(client, 4), source(client, 5)) == ("reviewed", "outlined")


def test_the_folder_holds_masks_and_which_slices_are_labels(client, session, tmp_path):
    put(client, "scan_00", 5, disc(SHAPE), 0)
    put(client, "scan_00", 7, np.zeros(SHAPE), 0, "eraser")
    client.post("/api/cases/scan_00/slices/9/accept")
    session.saver.save_all()
    mask = read_labels(tmp_path / "out" / "scan_00.nii.gz").array
    np.testing.assert_array_equal(mask[:, :, 5].T, disc(SHAPE))
    assert np.count_nonzero(mask) == np.count_nonzero(disc(SHAPE))
    record = AnnotationsRecord.read(tmp_path / "out" / "annotations.json")
    assert record.labels == {"liver": 6, "spleen": 1}
    assert record.scans["scan_00"].outlined == (5, 7)
    assert record.scans["scan_00"].reviewed == (9,)
    assert record.labelled_slices("scan_00") == (5, 7, 9)
    assert "scan_01" not in record.scans
    scans, labels = find_dataset(tmp_path / "images", tmp_path / "out")
    assert (list(scans), list(labels)) == (["scan_00", "scan_01"], ["scan_00"])


def test_files_follow_when_drawing_pauses(client, tmp_path, monkeypatch):
    from frugalseg.annotation import saving
    from tests.annotation.session import wait_for

    monkeypatch.setattr(saving, "PAUSE_S", 0.1)
    put(client, "scan_00", 5, disc(SHAPE), 0)
    assert wait_for(lambda: client.get("/api/state").json()["cases"][0]["saved"])
    assert (tmp_path / "out" / "scan_00.nii.gz").is_file()


def test_a_full_disk_refuses_a_stroke_and_breaks_nothing(client, session):
    put(client, "scan_00", 5, disc(SHAPE), 0)
    pages = session.database.one("PRAGMA page_count")[0]
    session.database.one(f"PRAGMA max_page_count={pages}")
    noise = np.random.default_rng(0).choice([0, 1, 6], SHAPE)
    drawn = 0
    while (answer := put(client, "scan_00", 6, noise, drawn)).status_code == 200:
        drawn += 1
    assert answer.status_code == 507
    assert "free some space" in answer.json()["hint"]
    assert client.get("/api/cases/scan_00").json()["slices"][6]["version"] == drawn
    np.testing.assert_array_equal(read_mask(client, "scan_00", 6, SHAPE), noise)
    session.database.one("PRAGMA max_page_count=1000000")
    assert put(client, "scan_00", 6, noise, drawn).status_code == 200  # the page tries again


def test_a_full_disk_while_files_are_written_is_told_and_tried_again(client, session, tmp_path, monkeypatch):
    from frugalseg.annotation import saving
    from tests.annotation.session import wait_for

    whole = saving.write_mask
    monkeypatch.setattr(saving, "PAUSE_S", 0.1)
    monkeypatch.setattr(saving, "RETRY_S", 0.3)

    def fail(*_):
        raise DiskError("no space left while writing scan_00.nii.gz", "free some space")

    monkeypatch.setattr(saving, "write_mask", fail)
    put(client, "scan_00", 5, disc(SHAPE), 0)
    assert "no space left" in wait_for(lambda: client.get("/api/state").json()["disk"])
    monkeypatch.setattr(saving, "write_mask", whole)
    assert wait_for(lambda: client.get("/api/state").json()["disk"] == "")
    assert np.count_nonzero(nib.load(tmp_path / "out" / "scan_00.nii.gz").get_fdata()) == np.count_nonzero(disc(SHAPE))


def test_as_many_strokes_as_ten_minutes_have_are_all_logged(client, session):
    """A hundred a minute, at once, while the files are written too."""
    for number in range(1000):
        answer = put(client, "scan_00", number % 12, disc(SHAPE, radius=0.1 + number / 5000), number // 12)
        assert answer.status_code == 200
    assert session.database.one("SELECT COUNT(*), SUM(seconds) FROM strokes")[:] == (1000, 1500.0)
    assert client.get("/api/state").json()["meter"]["minutes"] == 25
