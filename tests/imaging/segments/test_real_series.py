"""A real CT series (JPEG 2000, 512×512) with its identifiers restored, as it is, turned and mirrored."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import highdicom
import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest
from pydicom import dcmread
from pydicom.uid import CTImageStorage, generate_uid
from scipy.spatial.transform import Rotation

from frugalseg.evaluation.evaluate import evaluate
from frugalseg.imaging.labels import read_labels_on
from frugalseg.imaging.read import read_volume
from frugalseg.imaging.volume import Volume
from frugalseg.masks.output import MaskOutput, check_output
from frugalseg.options import EvaluateOptions, PredictOptions

ORGANS = {"spleen": (1,), "liver": (5,), "stomach": (6,), "pancreas": (7,), "aorta": (52,)}
TURNS = {
    "as it is": np.eye(3),
    "oblique": Rotation.from_euler("xyz", (12, -25, 40), degrees=True).as_matrix(),
    "turned by 45°": Rotation.from_euler("x", 45, degrees=True).as_matrix(),
    "feet first, prone": np.diag([1.0, -1.0, -1.0]),
    "mirrored": np.diag([-1.0, 1.0, 1.0]),
}
"""Name → matrix that moves the series in the patient, LPS."""

Matrix = npt.NDArray[np.float64]


def repair(source: Path, folder: Path, turn: Matrix, decompress: bool = False) -> Path:
    """A copy with the tags that anonymisation removed; every slice moved by the matrix."""
    study, series = generate_uid(), generate_uid()
    folder.mkdir(parents=True)
    for file in sorted(source.iterdir()):
        dataset = dcmread(file, force=True)
        if decompress:
            dataset.decompress(generate_instance_uid=False)
        dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, generate_uid()
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
        axes = np.array(dataset.ImageOrientationPatient, float).reshape(2, 3) @ turn.T
        dataset.ImageOrientationPatient = [f"{value:.10g}" for value in axes.ravel()]
        dataset.ImagePositionPatient = [f"{v:.10g}" for v in turn @ np.array(dataset.ImagePositionPatient, float)]
        dataset.save_as(folder / file.name)
    return folder


@pytest.fixture(scope="module", autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the labels' header states another rounding, the tags are those of a PACS
        yield


@pytest.fixture(scope="module")
def example(shared_data: Path) -> Path:
    return shared_data / "totalsegmentator_example"


@pytest.fixture(scope="module")
def true_mask(example: Path) -> npt.NDArray[np.uint8]:
    """The labels of the organs on the grid of the series as it is, in the order of the reader."""
    scan = read_volume(example / "dicom_ct")
    labels = read_labels_on(example / "example_seg_dicom.nii.gz", scan, "case").array
    return np.where(np.isin(labels, [v for values in ORGANS.values() for v in values]), labels, 0).astype(np.uint8)


@pytest.fixture(scope="module", params=TURNS)
def series(request, example: Path, true_mask, tmp_path_factory) -> tuple[Path, Volume]:
    """A series, and the mask on its grid."""
    source = repair(example / "dicom_ct", tmp_path_factory.mktemp("series") / "ct", TURNS[request.param])
    scan, straight = read_volume(source), read_volume(example / "dicom_ct")
    backwards = not np.array_equal(scan.array, straight.array)
    assert np.array_equal(scan.array, straight.array[..., ::-1] if backwards else straight.array)
    return source, scan.with_array(true_mask[..., ::-1] if backwards else true_mask)


def write(kind: str, series: tuple[Path, Volume], folder: Path) -> Path:
    """The mask as `predict --output-type` writes it."""
    source, mask = series
    options = PredictOptions(model=[folder], images=source, out=folder, output_type=kind)
    check_output(options, {"ct": source}, ORGANS)
    folder.mkdir(parents=True, exist_ok=True)
    MaskOutput.of(options, ORGANS, "predict").write(mask, folder / "ct.dcm", source)
    return folder / "ct.dcm"


@pytest.mark.parametrize("kind", ["dicom-seg", "rtstruct"])
def test_the_same_voxels_come_back(series: tuple[Path, Volume], tmp_path: Path, kind: str) -> None:
    source, mask = series
    back = read_labels_on(write(kind, series, tmp_path), read_volume(source), "ct")
    assert mask.array.any()
    assert np.array_equal(back.array, mask.array)


def test_highdicom_finds_the_same_voxels_on_each_source_image(series: tuple[Path, Volume], tmp_path: Path) -> None:
    source, mask = series
    files = [dcmread(file, stop_before_pixels=True) for file in sorted(source.iterdir())]
    frames = highdicom.seg.segread(write("dicom-seg", series, tmp_path)).get_pixels_by_source_instance(
        [file.SOPInstanceUID for file in files],
        combine_segments=True,
        ignore_spatial_locations=True,
        assert_missing_frames_are_empty=True,
    )
    values = np.array([0, *(own[0] for own in ORGANS.values())])
    to_voxel = np.linalg.inv(mask.affine) @ np.diag([-1, -1, 1, 1])
    rows, columns = np.indices(frames[0].shape)
    for file, frame in zip(files, values[frames], strict=True):
        along, down = np.split(np.array(file.ImageOrientationPatient, float), 2)
        places = np.array(file.ImagePositionPatient, float) + (
            rows[..., None] * file.PixelSpacing[0] * down + columns[..., None] * file.PixelSpacing[1] * along
        )
        x, y, z = np.moveaxis(np.rint(places @ to_voxel[:3, :3].T + to_voxel[:3, 3]).astype(int), -1, 0)
        assert np.array_equal(frame, mask.array[x, y, z])


@pytest.mark.parametrize("kind", ["dicom-seg", "rtstruct"])
def test_they_are_evaluated_against_references_of_another_format(
    series: tuple[Path, Volume], tmp_path: Path, kind: str
) -> None:
    source, mask = series
    predicted = write(kind, series, tmp_path / "predicted")
    (tmp_path / "predicted" / "predictions.json").write_text(
        json.dumps({"roles": {"ct": "test"}, "targets": ORGANS, "images": {"ct": str(source)}})
    )
    (tmp_path / "true").mkdir()
    nib.save(nib.Nifti1Image(mask.array, mask.affine), tmp_path / "true" / "ct.nii.gz")
    folders = {"predictions": predicted.parent, "references": tmp_path / "true", "out": tmp_path / "out"}
    summary = evaluate(EvaluateOptions(**folders, report=False, workers=0))
    dice = {organ: own.metrics["dice"].mean for organ, own in summary.groups["unseen"].organs.items()}
    assert all(mean in (1.0, None) for mean in dice.values())  # the series may not show every organ
    assert dice["liver"] == 1.0


def test_compression_does_not_matter(example: Path, tmp_path: Path) -> None:
    packed, plain = (
        repair(example / "dicom_ct", tmp_path / str(decompress), np.eye(3), decompress) for decompress in (False, True)
    )
    assert dcmread(next(packed.iterdir())).file_meta.TransferSyntaxUID.is_compressed
    assert not dcmread(next(plain.iterdir())).file_meta.TransferSyntaxUID.is_compressed
    assert np.array_equal(read_volume(packed).array, read_volume(plain).array)
