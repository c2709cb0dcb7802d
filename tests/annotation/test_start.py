"""What may be wrong when `annotate` starts, and masks that exist already."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from frugalseg import cli
from frugalseg.annotation.prompts import PromptError
from frugalseg.annotation.scans import OPEN_SCANS
from frugalseg.annotation.serve import annotate
from frugalseg.annotation.warm_up import start_warming_up
from frugalseg.errors import OptionError, PairingError, RunError, ScanError
from frugalseg.options import AnnotateOptions
from frugalseg.records.annotations import AnnotatedScan, AnnotationsRecord
from tests.annotation.session import open_client, open_session, put, read_mask, wait_for
from tests.scans import AFFINE_LPS, tiny_scan, write_cohort

SHAPE = (32, 32)


def options(images: Path, out: Path, **changes):
    return AnnotateOptions(images=images, out=out, port=0, no_browser=True, **changes)


def test_a_folder_without_scans_is_an_error(tmp_path):
    (tmp_path / "scans").mkdir()
    with pytest.raises(ScanError, match="holds no scans"):
        annotate(options(tmp_path / "scans", tmp_path / "out"))
    with pytest.raises(ScanError, match="does not exist"):
        annotate(options(tmp_path / "nowhere", tmp_path / "out"))


def test_a_port_in_use_is_an_error_before_anything_is_written(tmp_path):
    images, _ = write_cohort(tmp_path, 1)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OptionError, match=f"--port {port} cannot be used") as error:
            annotate(AnnotateOptions(images=images, out=tmp_path / "out", port=port, no_browser=True))
    assert "another --port" in error.value.cure
    assert not (tmp_path / "out").exists()


def test_an_address_of_another_machine_is_an_error(tmp_path):
    images, _ = write_cohort(tmp_path, 1)
    with pytest.raises(OptionError, match="cannot be used"):
        annotate(options(images, tmp_path / "out", host="203.0.113.7"))


def test_without_fastapi_the_command_says_what_to_install(tmp_path, monkeypatch):
    import sys

    images, _ = write_cohort(tmp_path, 1)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    with pytest.raises(RunError, match="not installed") as error:
        annotate(options(images, tmp_path / "out"))
    assert "frugalseg[annotate]" in error.value.cure


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give --images, the folder of your scans, or --demo"),
        (["--images", "x", "--demo"], "not both"),
        (["--images", "x", "--port", "70000"], "not in 0…65535"),
        (["--images", "x", "--token", "short"], "shorter than 16"),
    ],
)
def test_options_that_do_not_fit(arguments, said, capsys):
    assert cli.main(["annotate", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_the_scans_are_never_the_output(tmp_path):
    images, _ = write_cohort(tmp_path, 1)
    with pytest.raises(OptionError, match="--out is the folder of the scans"):
        annotate(options(images, images))


def test_masks_that_annotate_has_not_made_are_never_overwritten(tmp_path):
    images, masks = write_cohort(tmp_path, 1)
    before = (masks / "scan_00.nii.gz").read_bytes()
    with pytest.raises(RunError, match="has not made") as error:
        annotate(options(images, masks))
    assert "--masks" in error.value.cure
    assert (masks / "scan_00.nii.gz").read_bytes() == before
    assert [path.name for path in masks.iterdir()] == ["scan_00.nii.gz"]


def test_the_folder_of_unpacked_scans_stays_small(tmp_path):
    images, _ = write_cohort(tmp_path, 8)
    with open_session(images, tmp_path / "out", cache_gb=1e-6, start=False) as session:
        for number in range(8):
            session.open(f"scan_{number:02d}")
        kept = list((tmp_path / "out" / "work" / "scans").glob("*.npy"))
        assert len(kept) == OPEN_SCANS
        session.open("scan_00")  # unpacked again


def test_an_unreadable_scan_is_listed_and_the_others_work(tmp_path):
    images, _ = write_cohort(tmp_path, 2)
    (images / "scan_00.nii.gz").write_bytes(b"this is no scan")
    with open_session(images, tmp_path / "out", start=False) as session, open_client(session) as client:
        suggestion = wait_for(lambda: client.get("/api/state").json()["suggestion"])
        assert suggestion["case"] == "scan_01"
        answer = client.get("/api/cases/scan_00")
        assert answer.status_code == 422
        assert answer.json()["hint"]
        broken, whole = client.get("/api/state").json()["cases"]
        assert (broken["state"], broken["rank"]) == ("unreadable", 1)
        assert "gz" in broken["message"]
        assert client.get("/api/cases/scan_01").status_code == 200
        assert whole["state"] == "new"


def test_a_scan_that_is_repaired_is_read_again(tmp_path):
    images, _ = write_cohort(tmp_path, 1)
    good = (images / "scan_00.nii.gz").read_bytes()
    (images / "scan_00.nii.gz").write_bytes(good[:200])
    with open_session(images, tmp_path / "out", start=False) as session, open_client(session) as client:
        assert client.get("/api/cases/scan_00").status_code == 422
        (images / "scan_00.nii.gz").write_bytes(good)
        assert client.get("/api/cases/scan_00").status_code == 200
        assert client.get("/api/state").json()["cases"][0]["state"] == "new"


def test_masks_to_correct_are_predicted_slices(tmp_path):
    images, masks = write_cohort(tmp_path, 2)
    with open_session(images, tmp_path / "out", masks=masks, target=[]) as session, open_client(session) as client:
        slices = client.get("/api/cases/scan_00").json()["slices"]
        assert {one["source"] for one in slices} == {"predicted"}
        assert slices[5]["labels"] == [1, 6]
        np.testing.assert_array_equal(read_mask(client, "scan_00", 5, SHAPE), tiny_scan(0)[1][:, :, 5].T)
        assert [label["name"] for label in client.get("/api/state").json()["labels"]] == ["label 1", "label 6"]
        assert session.saver.make_record().labelled_slices("scan_00") == ()


def test_masks_of_a_person_are_outlined_and_only_the_listed_slices(tmp_path):
    images, labels = write_cohort(tmp_path, 2)
    with open_session(images, tmp_path / "out", labels=labels) as session, open_client(session) as client:
        assert {one["source"] for one in client.get("/api/cases/scan_01").json()["slices"]} == {"outlined"}
    AnnotationsRecord(
        labels={"liver": 6}, scans={"scan_00": AnnotatedScan(mask="scan_00.nii.gz", slices=12, reviewed=(4, 5))}
    ).write(labels / "annotations.json")
    with open_session(images, tmp_path / "other", labels=labels, target=[]) as session, open_client(session) as client:
        sources = [one["source"] for one in client.get("/api/cases/scan_00").json()["slices"]]
        assert sources == [None] * 4 + ["outlined"] * 2 + [None] * 6
        assert {one["source"] for one in client.get("/api/cases/scan_01").json()["slices"]} == {None}
        assert {"value": 6, "name": "liver"}.items() <= client.get("/api/state").json()["labels"][-1].items()


def test_given_masks_never_replace_what_was_drawn(tmp_path):
    images, masks = write_cohort(tmp_path, 1)
    with open_session(images, tmp_path / "out") as session, open_client(session) as client:
        put(client, "scan_00", 3, np.full(SHAPE, 6), 0)
    with open_session(images, tmp_path / "out", masks=masks) as session, open_client(session) as client:
        assert (read_mask(client, "scan_00", 3, SHAPE) == 6).all()


def test_labels_on_another_grid_are_told_and_the_scan_can_still_be_drawn_on(tmp_path):
    images, masks = write_cohort(tmp_path, 2)
    moved = AFFINE_LPS.copy()
    moved[0, 3] += 50
    nib.save(nib.Nifti1Image(tiny_scan(0)[1], moved), masks / "scan_00.nii.gz")
    with open_session(images, tmp_path / "out", masks=masks) as session, open_client(session) as client:
        first, second = client.get("/api/state").json()["cases"]
        assert "different grids" in first["message"]
        assert (first["state"], second["state"]) == ("new", "predicted")
        assert put(client, "scan_00", 5, np.zeros(SHAPE), 0).status_code == 200


def test_masks_that_belong_to_no_scan_are_an_error(tmp_path):
    images, masks = write_cohort(tmp_path, 1)
    shutil.move(masks / "scan_00.nii.gz", masks / "other.nii.gz")
    with pytest.raises(Exception, match="no label"):
        annotate(options(images, tmp_path / "out", masks=masks))


def test_references_are_compared_only_when_given(tmp_path):
    images, references = write_cohort(tmp_path, 2)
    truth = tiny_scan(0)[1][:, :, 5].T
    with open_session(images, tmp_path / "a", references=references) as session, open_client(session) as client:
        assert client.get("/api/state").json()["references"]
        shown = np.frombuffer(client.get("/api/references/scan_00/slices/5/mask").content, np.uint8).reshape(SHAPE)
        np.testing.assert_array_equal(shown, truth)
        put(client, "scan_00", 5, truth, 0)
        drawn, whole = np.count_nonzero(truth == 6), np.count_nonzero(tiny_scan(0)[1] == 6)
        assert client.get("/api/cases/scan_00/dice").json()["dice"]["liver"] == pytest.approx(
            2 * drawn / (drawn + whole)
        )
    with open_session(images, tmp_path / "b") as session, open_client(session) as client:
        assert client.get("/api/references/scan_00/slices/5/mask").status_code == 404
        assert client.get("/api/cases/scan_00/dice").status_code == 404


def test_references_of_other_scans_are_left_out(tmp_path):
    images, references = write_cohort(tmp_path, 3)
    (images / "scan_00.nii.gz").unlink()
    with open_session(images, tmp_path / "out", references=references, start=False) as session:
        assert list(session.references) == ["scan_01", "scan_02"]
    for case in ("scan_01", "scan_02"):
        (references / f"{case}.nii.gz").unlink()
    with pytest.raises(PairingError, match="holds no mask of these scans"):
        annotate(options(images, tmp_path / "other", references=references))


def test_without_the_weights_prompts_say_what_is_missing_and_drawing_works(tmp_path, monkeypatch):
    monkeypatch.setenv("FRUGALSEG_HOME", str(tmp_path / "empty"))
    images, _ = write_cohort(tmp_path, 1)
    with open_session(images, tmp_path / "out", start=False) as session, open_client(session) as client:
        promptable = client.get("/api/state").json()["promptable"]
        assert promptable["name"] is None
        assert "frugalseg weights import" in promptable["message"]
        answer = client.post("/api/cases/scan_00/slices/5/prompt", json={"box": [4, 4, 20, 20]})
        assert answer.status_code == 503
        assert "not installed" in answer.json()["message"]
        assert client.post("/api/cases/scan_00/focus", json={"slice": 5}).status_code == 202
        assert put(client, "scan_00", 5, np.zeros(SHAPE), 0).status_code == 200


def test_the_page_is_built_or_the_server_says_how(tmp_path, monkeypatch):
    images, _ = write_cohort(tmp_path, 1)
    from frugalseg.annotation.routes import files

    with open_session(images, tmp_path / "out", start=False) as session, open_client(session) as client:
        text = client.get("/").text
        assert ("make web" in text) != (files.PAGE / "index.html").is_file()


def test_prompts_give_a_mask_where_the_box_is(tmp_path, litemedsam_file):
    images, _ = write_cohort(tmp_path, 1, shape=(64, 64, 12))
    truth = tiny_scan(0, (64, 64, 12))[1][:, :, 6].T == 6
    rows, columns = np.flatnonzero(truth.any(axis=1)), np.flatnonzero(truth.any(axis=0))
    box = [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]
    with open_session(images, tmp_path / "out", start=False, threads=1) as session, open_client(session) as client:
        client.post("/api/cases/scan_00/focus", json={"slice": 6})
        answer = client.post("/api/cases/scan_00/slices/6/prompt", json={"box": box})
        assert answer.status_code == 200, answer.text
        found = np.frombuffer(answer.content, np.uint8).reshape(64, 64) == 1
        dice = 2 * np.count_nonzero(found & truth) / (np.count_nonzero(found) + np.count_nonzero(truth))
        assert dice > 0.7
        point = [(box[0] + box[2]) // 2, (box[1] + box[3]) // 2, 1]
        again = client.post("/api/cases/scan_00/slices/6/prompt", json={"points": [point], "previous": True})
        refined = np.frombuffer(again.content, np.uint8).reshape(64, 64) == 1
        assert refined[point[1], point[0]]
        assert client.post("/api/cases/scan_00/slices/6/prompt", json={}).status_code == 422
        session.prompter.close()


def test_the_first_scan_is_opened_and_its_suggested_slice_embedded_before_the_page_asks(tmp_path, litemedsam_file):
    images, _ = write_cohort(tmp_path, 2, shape=(64, 64, 12))
    with open_session(images, tmp_path / "out", start=False, threads=1) as session:
        start_warming_up(session)
        wait_for(lambda: any(session.place.embeddings.rglob("*.safetensors")))
        assert session.cases.depth("scan_00") == 12
        assert session.cases.depth("scan_01") == 0
        session.prompter.close()


def test_a_server_that_ends_at_once_does_not_wait_for_the_model(tmp_path, litemedsam_file):
    images, _ = write_cohort(tmp_path, 1)
    with open_session(images, tmp_path / "out", start=False) as session:
        session.prompter.start()
        process = wait_for(lambda: session.prompter._process)
        session.prompter.close()
        assert not process.is_alive()
        with pytest.raises(PromptError, match="ending"):
            session.prompter.ask("scan_00", 5, (4, 4, 20, 20), (), False)
