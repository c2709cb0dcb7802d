"""Masks as DICOM objects from one command to the next, and as other programs read them."""

from __future__ import annotations

import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import highdicom
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import SimpleITK
from pydicom import dcmread

from frugalseg.commands.finetune import finetune
from frugalseg.commands.predict import predict
from frugalseg.dataset.prepare import prepare
from frugalseg.dataset.store import SliceStore
from frugalseg.errors import OptionError, PairingError, ScanError
from frugalseg.evaluation.evaluate import evaluate
from frugalseg.imaging.find import find_masks
from frugalseg.imaging.labels import read_labels_on
from frugalseg.imaging.read import read_labels, read_volume
from frugalseg.imaging.segments.kinds import SEGMENTS_FILE
from frugalseg.imaging.volume import canonical
from frugalseg.options import EvaluateOptions, FinetuneOptions, PredictOptions, PrepareOptions
from frugalseg.refinement import refine as refining
from frugalseg.segmentation.predict import SegmentWork
from tests.imaging.scans import write_series
from tests.imaging.segments.series import write_as_dicom
from tests.promptable.fake import Bright
from tests.scans import write_cohort

CASES = ("scan_00", "scan_01")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder with a model of liver and spleen, DICOM series of two of its scans, and their masks."""
    root = tmp_path_factory.mktemp("outputs")
    images, labels = write_cohort(root, 5, shape=(32, 32, 6))
    target = ["liver=6", "spleen=1"]
    prepare(PrepareOptions(images=images, labels=labels, target=target, size=32, out=root / "store"))
    fit = FinetuneOptions(data=root / "store", out=root / "fit", steps=40, device="cpu", precision="32")
    finetune(fit)
    for case in CASES:
        write_as_dicom(images / f"{case}.nii.gz", root / "series" / case)
    predict(options(root, root / "nifti"))
    return root


def options(root: Path, out: Path, **more: object) -> PredictOptions:
    return PredictOptions(
        model=root / "fit", images=root / "series", out=out, device="cpu", precision="32", modality="ct", **more
    )


@pytest.mark.parametrize("kind", ["dicom-seg", "rtstruct"])
def test_a_prediction_is_the_same_in_every_format(model, tmp_path, kind):
    written = predict(options(model, tmp_path / "out", output_type=kind))
    assert [path.name for path in written.values()] == [f"{case}.dcm" for case in CASES]
    for case, path in written.items():
        scan = read_volume(model / "series" / case)
        expected = read_labels(model / "nifti" / f"{case}.nii.gz")
        assert expected.array.any()
        assert np.array_equal(read_labels_on(path, scan, case).array, expected.array)
    target = {"target": ["liver=6", "spleen=1"], "references": model / "labels", "case": list(CASES)}
    evaluate(EvaluateOptions(predictions=model / "nifti", out=tmp_path / "a", **target))
    evaluate(EvaluateOptions(predictions=tmp_path / "out", out=tmp_path / "b", report=False, **target))
    assert (tmp_path / "a" / "cases.csv").read_text() == (tmp_path / "b" / "cases.csv").read_text()
    swapped = EvaluateOptions(
        predictions=model / "nifti", references=tmp_path / "out", out=tmp_path / "c", target=target["target"]
    )
    evaluate(swapped)
    assert set(pd.read_csv(tmp_path / "c" / "cases.csv")["dice"].dropna()) == {1.0}


def test_rules_choose_the_series_and_the_patient_names_the_mask(model, tmp_path):
    for case in CASES:
        shutil.copytree(model / "series" / case, tmp_path / "tree" / case / "ST" / "SE1")
        write_series(tmp_path / "tree" / case / "ST" / "SE2", 3, SeriesDescription="scout")
    given = options(model, tmp_path / "out")
    written = predict(replace(given, images=tmp_path / "tree", series=["not:scout"]))
    assert list(written) == list(CASES)
    for case in CASES:
        assert (read_labels(written[case]).array == read_labels(model / "nifti" / f"{case}.nii.gz").array).all()


def test_nrrd_is_written_for_any_scan(model, tmp_path):
    (path,) = predict(options(model, tmp_path / "out", output_type="nrrd", case=["scan_01"])).values()
    image = SimpleITK.ReadImage(str(path))
    expected = read_labels(model / "nifti" / "scan_01.nii.gz").array
    assert np.array_equal(SimpleITK.GetArrayFromImage(image).T, expected)


def test_highdicom_finds_the_voxels_the_terms_and_the_source(model, tmp_path):
    (path,) = predict(options(model, tmp_path / "out", output_type="dicom-seg", case=["scan_01"])).values()
    seg = highdicom.seg.segread(path)
    files = [dcmread(file) for file in sorted((model / "series" / "scan_01").iterdir())]
    liver, spleen = (seg.get_segment_description(number) for number in (1, 2))
    assert (liver.segment_label, liver.segmented_property_type.value) == ("liver", "10200004")
    assert (spleen.segment_label, spleen.tracking_id) == ("spleen", "spleen")
    assert liver.tracking_uid != spleen.tracking_uid
    assert liver.algorithm_type.value == "AUTOMATIC"
    assert liver.algorithm_identification.name == "frugalseg predict"
    assert (seg.StudyInstanceUID, seg.PatientID) == (files[0].StudyInstanceUID, files[0].PatientID)
    frames = seg.get_pixels_by_source_instance(
        [file.SOPInstanceUID for file in files],
        combine_segments=True,
        ignore_spatial_locations=True,
        assert_missing_frames_are_empty=True,
    )
    values = np.array([0, 6, 1])[frames]
    mask = canonical(read_labels(model / "nifti" / "scan_01.nii.gz"))[0].array
    assert np.array_equal(values, mask.transpose(2, 1, 0))
    volume = seg.get_volume(combine_segments=True)
    assert np.count_nonzero(volume.array) == np.count_nonzero(mask)


def test_dicom_masks_are_labels_for_training(model, tmp_path):
    written = predict(options(model, tmp_path / "masks", output_type="rtstruct"))
    shared = {"images": model / "series", "target": ["liver=6", "spleen=1"], "size": 32, "modality": "ct"}
    prepare(PrepareOptions(labels=tmp_path / "masks", out=tmp_path / "a", **shared))
    prepare(PrepareOptions(labels=model / "nifti", out=tmp_path / "b", **shared))
    a, b = (SliceStore.open(tmp_path / name) for name in "ab")
    assert np.array_equal(a.labels[:], b.labels[:])
    assert find_masks(tmp_path / "masks") == written


def test_refined_masks_take_the_format_and_coarse_ones_stay_nifti(model, tmp_path, monkeypatch):
    monkeypatch.setattr(refining, "load_promptable", lambda name, *_: Bright(signature=name, threshold=0.5))
    monkeypatch.setattr("frugalseg.promptable.load.find_weights", lambda name: name)
    own = options(model, tmp_path / "out", output_type="dicom-seg", refine="litemedsam", case=["scan_01"])
    (path,) = predict(own).values()
    assert dcmread(path).SegmentSequence[0].SegmentAlgorithmName == "frugalseg refine"
    assert (tmp_path / "out" / "coarse" / "scan_01.nii.gz").is_file()


def test_what_cannot_be_written_is_refused_before_the_first_scan(model, tmp_path):
    with pytest.raises(ScanError, match="is not a DICOM series"):
        predict(replace(options(model, tmp_path / "a", output_type="dicom-seg"), images=model / "images"))
    codes = tmp_path / "codes.csv"
    codes.write_text("name,value,meaning\nliver,1,\n")
    with pytest.raises(OptionError, match="line 2: meaning missing"):
        predict(options(model, tmp_path / "b", output_type="dicom-seg", segment_codes=codes))
    with pytest.raises(OptionError, match="have no coded terms"):
        predict(options(model, tmp_path / "c", segment_codes=codes))
    assert not any((tmp_path / name).exists() for name in "abc")


def test_segments_are_chosen_by_name_where_numbers_differ(model, tmp_path):
    masks = tmp_path / "masks"
    predict(options(model, masks, output_type="rtstruct"))
    for path in masks.glob("*.dcm"):
        dataset = dcmread(path)
        for region in dataset.StructureSetROISequence:
            del region.ROIDescription
        dataset.save_as(path)
    dataset = dcmread(masks / "scan_01.dcm")
    for region, name in zip(dataset.StructureSetROISequence, ("spleen", "liver"), strict=True):
        region.ROIName = name
    dataset.save_as(masks / "scan_01.dcm")
    with pytest.raises(PairingError, match="'spleen' has number 1 in .*scan_01.*, 2 in .*scan_00"):
        find_masks(masks)
    (masks / SEGMENTS_FILE).write_text("name,value\nliver,6\n")
    assert set(find_masks(masks)) == set(CASES)
    expected = {case: nib.load(model / "nifti" / f"{case}.nii.gz").get_fdata() for case in CASES}
    for case, value in zip(CASES, (6, 1), strict=True):  # in the second the names were swapped
        scan = read_volume(model / "series" / case)
        found = read_labels_on(masks / f"{case}.dcm", scan, case).array
        assert np.array_equal(found == 6, expected[case] == value)
        assert set(np.unique(found)) <= {0, 6}


def test_probabilities_agree_with_the_mask_and_are_no_scans(model, tmp_path):
    out = tmp_path / "out"
    own = options(model, out, probabilities=True, preview=True, keep="all", case=["scan_01"])
    predict(own)
    liver, spleen, doubt = (
        nib.load(out / "probabilities" / f"scan_01.{name}.nii.gz").get_fdata()
        for name in ("liver", "spleen", "uncertainty")
    )
    mask = nib.load(out / "scan_01.nii.gz").get_fdata()
    rest = 1 - liver - spleen
    ordered = np.sort([rest, liver, spleen], axis=0)
    margin = ordered[2] - ordered[1]
    sure = margin > 0.02
    likeliest = np.array([0, 6, 1])[np.argmax([rest, liver, spleen], axis=0)]
    assert np.array_equal(likeliest[sure], mask[sure])
    assert doubt[margin < 0.3].mean() > doubt[margin > 0.7].mean()
    assert (out / "previews" / "scan_01.html").is_file()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(find_masks(out)) == ["scan_01"]


def test_a_mask_of_another_machine_arrives_as_the_object_that_was_asked_for(model, tmp_path):
    source = model / "series" / "scan_01"
    work = SegmentWork(options(model, tmp_path / "out", output_type="rtstruct", case=["scan_01"]))
    made = work.make("scan_01", work.read("scan_01", source))
    packed = work.pack("scan_01", source, made)
    assert isinstance(packed.mask, bytes)
    packed.write(tmp_path / "m.dcm", source)
    assert np.array_equal(read_labels_on(tmp_path / "m.dcm", read_volume(source), "m").array, made.mask.array)
