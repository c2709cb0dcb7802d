"""Exports that other programs read."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pydicom
import SimpleITK

from frugalseg.imaging.find import find_dataset, find_scans
from frugalseg.imaging.read import read_volume
from tests.annotation.session import disc, open_client, open_session, put
from tests.imaging.scans import write_series
from tests.scans import write_cohort

SHAPE = (32, 32)


def export(client, form):
    return client.post("/api/export", json={"format": form})


def test_nifti_masks_lie_on_their_scans(tmp_path):
    images, _ = write_cohort(tmp_path, 2)
    with open_session(images, tmp_path / "out") as session, open_client(session) as client:
        assert export(client, "nifti").status_code == 422  # nothing is drawn yet
        put(client, "scan_01", 5, disc(SHAPE), 0)
        answer = export(client, "nifti").json()
    assert answer == {"folder": str(tmp_path / "out-export" / "nifti"), "files": 1}
    mask = SimpleITK.ReadImage(str(tmp_path / "out-export" / "nifti" / "scan_01.nii.gz"))
    scan = SimpleITK.ReadImage(str(images / "scan_01.nii.gz"))
    assert (mask.GetOrigin(), mask.GetDirection(), mask.GetSize()) == (
        scan.GetOrigin(),
        scan.GetDirection(),
        scan.GetSize(),
    )
    names = json.loads((tmp_path / "out-export" / "nifti" / "labels.json").read_text())
    assert names == {"spleen": 1, "liver": 6}


def test_an_export_replaces_an_earlier_one_and_nothing_else(tmp_path):
    images, _ = write_cohort(tmp_path, 1)
    folder = tmp_path / "out-export" / "nifti"
    with open_session(images, tmp_path / "out") as session, open_client(session) as client:
        put(client, "scan_00", 5, disc(SHAPE), 0)
        folder.mkdir(parents=True)
        (folder / "mine.txt").write_text("keep")
        assert export(client, "nifti").status_code == 422
        assert (folder / "mine.txt").read_text() == "keep"
        (folder / "mine.txt").unlink()
        for _ in range(2):
            assert export(client, "nifti").json()["files"] == 1
    assert [path.name for path in find_scans(folder).values()] == ["scan_00.nii.gz"]


def test_nnunet_gets_finished_scans_only_with_consecutive_labels(tmp_path):
    images, _ = write_cohort(tmp_path, 2)
    with open_session(images, tmp_path / "out") as session, open_client(session) as client:
        put(client, "scan_00", 5, disc(SHAPE), 0)
        refused = export(client, "nnunet")
        assert refused.status_code == 422
        assert "background" in refused.json()["message"]
        for z in range(12):
            put(client, "scan_01", z, disc(SHAPE), 0)
        assert export(client, "nnunet").json()["files"] == 1
    folder = tmp_path / "out-export" / "nnunet"
    described = json.loads((folder / "dataset.json").read_text())
    assert described["labels"] == {"background": 0, "spleen": 1, "liver": 2}
    assert (described["numTraining"], described["channel_names"]) == (1, {"0": "CT"})
    scans, masks = find_dataset(folder, None)
    assert list(scans) == list(masks) == ["scan_01"]
    assert set(np.unique(nib.load(masks["scan_01"]).get_fdata())) == {0, 2}
    np.testing.assert_array_equal(read_volume(scans["scan_01"]).array, read_volume(images / "scan_01.nii.gz").array)


def test_an_nnunet_data_set_is_opened_with_its_names(tmp_path):
    scans, labels = write_cohort(tmp_path / "made", 1)
    raw = tmp_path / "Dataset001"
    (raw / "imagesTr").mkdir(parents=True)
    (raw / "labelsTr").mkdir()
    (scans / "scan_00.nii.gz").rename(raw / "imagesTr" / "scan_00_0000.nii.gz")
    (labels / "scan_00.nii.gz").rename(raw / "labelsTr" / "scan_00.nii.gz")
    (raw / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "milt": 1, "lever": 6}}))
    with open_session(raw, tmp_path / "out", labels=raw, target=[]) as session, open_client(session) as client:
        state = client.get("/api/state").json()
        assert [(label["value"], label["name"]) for label in state["labels"]] == [(1, "milt"), (6, "lever")]
        assert state["cases"][0]["id"] == "scan_00"
        assert state["cases"][0]["outlined"] == 12


def test_dicom_seg_needs_a_dicom_series(tmp_path):
    images, _ = write_cohort(tmp_path, 1)
    with open_session(images, tmp_path / "out") as session, open_client(session) as client:
        put(client, "scan_00", 5, disc(SHAPE), 0)
        assert "DICOM series" in export(client, "dicom-seg").json()["message"]
        assert export(client, "docx").status_code == 422


def test_dicom_seg_marks_the_pixels_that_were_drawn(tmp_path):
    images = tmp_path / "scans"
    patient = {"PatientID": "1", "PatientName": "A^B", "PatientBirthDate": "", "PatientSex": "", "StudyID": "1"}
    study = {"StudyDate": "20260101", "StudyTime": "120000", "AccessionNumber": "1", "ReferringPhysicianName": ""}
    write_series(images / "p1", StudyInstanceUID="1.2.8", FrameOfReferenceUID="1.2.9", **patient, **study)
    with open_session(images, tmp_path / "out") as session, open_client(session) as client:
        columns, rows, _ = client.get("/api/cases/p1").json()["shape"]
        mask = np.zeros((rows, columns), np.uint8)
        mask[2, 5], mask[3, 1] = 6, 6
        assert put(client, "p1", 1, mask, 0).status_code == 200
        assert export(client, "dicom-seg").json()["files"] == 1
        shown = session.open("p1").picture(1)
    written = pydicom.dcmread(tmp_path / "out-export" / "dicom-seg" / "p1.dcm")
    assert written.Modality == "SEG"
    assert [segment.SegmentLabel for segment in written.SegmentSequence] == ["liver"]
    (frame,) = written.PerFrameFunctionalGroupsSequence
    source = frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
    files = [pydicom.dcmread(path) for path in (images / "p1").iterdir()]
    image = next(one for one in files if source == one.SOPInstanceUID)
    values = image.pixel_array * image.RescaleSlope + image.RescaleIntercept
    marked = np.atleast_3d(written.pixel_array.reshape(rows, columns)) > 0
    assert sorted(values[marked[..., 0]].tolist()) == sorted([int(shown[2, 5]), int(shown[3, 1])])
