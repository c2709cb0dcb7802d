"""Write masks as RTSTRUCT, by pydicom."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid

from frugalseg.engine.files import atomic_write
from frugalseg.imaging.segments.codes import Code
from frugalseg.imaging.segments.contours import Bools, Points, find_outlines
from frugalseg.imaging.segments.kinds import VALUE_TEXT
from frugalseg.imaging.segments.seg_writer import SERIES_NUMBER, display_colour, to_numbers
from frugalseg.imaging.segments.source import Author, Organ, Series
from frugalseg.imaging.volume import Array, Volume

_COPIED = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyID", "StudyDate"),
    *("StudyTime", "AccessionNumber", "ReferringPhysicianName", "FrameOfReferenceUID", "PositionReferenceIndicator"),
)
_DETACHED_STUDY = "1.2.840.10008.3.1.2.3.1"
"""SOP class by which an RTSTRUCT refers to a study; retired, but named by the standard for this purpose."""


def write_rtstruct(mask: Volume, path: Path, source: Path, organs: Sequence[Organ], author: Author) -> None:
    """Write a mask as an RTSTRUCT object with one region for each organ, in the study of its series.

    Contours run halfway between voxels inside and outside, in the planes of the slices (see `contours`), so that the
    voxels whose centres are inside are those of the mask. Arguments and errors are those of `seg_writer.write_seg`.
    """
    series = Series.read(source)
    frames = to_numbers(series.to_frames(mask), organs, path)
    dataset = _make_header(series, author)
    dataset.StructureSetROISequence = [
        _describe_region(number, organ, series, author) for number, organ in enumerate(organs, start=1)
    ]
    dataset.RTROIObservationsSequence = [_observe_region(number, organ) for number, organ in enumerate(organs, start=1)]
    dataset.ROIContourSequence = [_outline_region(number, frames, series) for number in range(1, len(organs) + 1)]
    with atomic_write(path) as file:
        dataset.save_as(file, enforce_file_format=True)


def _make_header(series: Series, author: Author) -> Dataset:
    first, now = series.headers[0], datetime.now(tz=timezone.utc).astimezone()
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    if first.get("SpecificCharacterSet"):
        dataset.SpecificCharacterSet = first.SpecificCharacterSet
    for tag in _COPIED:
        setattr(dataset, tag, first.get(tag))
    dataset.SOPClassUID, dataset.SOPInstanceUID = RTStructureSetStorage, generate_uid()
    dataset.Modality, dataset.SeriesInstanceUID, dataset.SeriesNumber = "RTSTRUCT", generate_uid(), SERIES_NUMBER
    dataset.InstanceNumber, dataset.OperatorsName = 1, None
    dataset.SeriesDescription, dataset.Manufacturer = author.name, "frugalseg"
    dataset.ManufacturerModelName, dataset.SoftwareVersions = author.name, author.version
    dataset.InstanceCreationDate, dataset.InstanceCreationTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    dataset.StructureSetLabel, dataset.StructureSetName = "SEGMENTATION", author.name
    dataset.StructureSetDate, dataset.StructureSetTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    dataset.ApprovalStatus = "UNAPPROVED"
    dataset.ReferencedFrameOfReferenceSequence = [_refer_to_series(series)]
    return dataset


def _refer_to_series(series: Series) -> Dataset:
    first = series.headers[0]
    own = Dataset()
    own.SeriesInstanceUID = first.SeriesInstanceUID
    own.ContourImageSequence = [_refer_to_image(header) for header in series.headers]
    study = Dataset()
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = _DETACHED_STUDY, first.StudyInstanceUID
    study.RTReferencedSeriesSequence = [own]
    frame = Dataset()
    frame.FrameOfReferenceUID, frame.RTReferencedStudySequence = first.FrameOfReferenceUID, [study]
    return frame


def _refer_to_image(header: Dataset) -> Dataset:
    image = Dataset()
    image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
    return image


def _describe_region(number: int, organ: Organ, series: Series, author: Author) -> Dataset:
    region = Dataset()
    region.ROINumber, region.ROIName = number, organ.name[:64]
    region.ROIDescription = VALUE_TEXT.format(organ.value)
    region.ReferencedFrameOfReferenceUID = series.headers[0].FrameOfReferenceUID
    region.ROIGenerationAlgorithm = author.kind
    region.ROIGenerationDescription = f"{author.name} {author.version}"[:64]
    return region


def _observe_region(number: int, organ: Organ) -> Dataset:
    seen = Dataset()
    seen.ObservationNumber = seen.ReferencedROINumber = number
    seen.ROIObservationLabel = organ.name[:16]
    seen.RTROIInterpretedType, seen.ROIInterpreter = "ORGAN", None
    if organ.code is not None:
        term = _to_item(organ.code.type)
        if organ.code.modifier is not None:
            term.SegmentedPropertyTypeModifierCodeSequence = [_to_item(organ.code.modifier)]
        seen.RTROIIdentificationCodeSequence = [term]
    return seen


def _to_item(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme, code.meaning
    return item


def _outline_region(number: int, frames: Array, series: Series) -> Dataset:
    region = Dataset()
    region.ReferencedROINumber, region.ROIDisplayColor = number, list(display_colour(number))
    region.ContourSequence = list(_outline_slices(frames == number, series))
    return region


def _outline_slices(masks: Bools, series: Series) -> Iterator[Dataset]:
    for mask, header, one in zip(masks, series.headers, series.slices, strict=True):
        if not mask.any():
            continue
        down, right = one.along_column * one.spacing[0], one.along_row * one.spacing[1]
        for outline in find_outlines(mask):
            contour = Dataset()
            contour.ContourImageSequence = [_refer_to_image(header)]
            contour.ContourGeometricType = "CLOSED_PLANAR"
            contour.NumberOfContourPoints = len(outline)
            contour.ContourData = _format(one.position + outline[:, :1] * down + outline[:, 1:] * right)
            yield contour


def _format(points: Points) -> list[str]:
    """Coordinates as decimal strings of at most 16 characters; a tenth of a micrometre is exact enough."""
    return [f"{value:.4f}" for value in np.round(points, 4).ravel() + 0.0]
