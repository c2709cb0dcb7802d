"""Write masks as DICOM SEG, by highdicom."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom.uid import generate_uid

from frugalseg.engine.files import atomic_write
from frugalseg.imaging.segments.codes import SOME_ORGAN, Code
from frugalseg.imaging.segments.kinds import VALUE_TEXT
from frugalseg.imaging.segments.source import Author, Organ, Series
from frugalseg.imaging.validation import scan_error
from frugalseg.imaging.volume import Array, Volume

if TYPE_CHECKING:
    from highdicom.seg import Segmentation, SegmentDescription

SERIES_NUMBER = 900


def write_seg(mask: Volume, path: Path, source: Path, organs: Sequence[Organ], author: Author) -> None:
    """Write a mask as a binary DICOM SEG object with one segment for each organ, in the study of its series.

    Its frames are planes of the series, so that oblique series and a gantry tilt are kept; empty frames are left out.
    Each segment states its label value in its description, by which `seg_reader` reads the same mask back.

    Args:
        mask: label values, on the grid of the series; only values of organs.
        path: the file.
        source: the DICOM series.
        organs: the segments; an organ that the mask does not show has no frame.
        author: what made the mask.

    Raises:
        ScanError: the source is no complete DICOM series, the mask lies on another grid, holds a value of no organ, or
            is empty.
        DiskError: the disk is full or the folder cannot be written.
    """
    series = Series.read(source)
    frames = to_numbers(series.to_frames(mask), organs, path)
    try:
        segmentation = _make_segmentation(series, frames, organs, author)
    except (AttributeError, TypeError, ValueError, KeyError) as error:  # tags that highdicom needs
        raise scan_error(source, f"cannot become DICOM SEG ({error})", "choose --output-type nifti instead") from error
    with atomic_write(path) as file:
        segmentation.save_as(file)


def to_numbers(frames: Array, organs: Sequence[Organ], path: Path) -> Array:
    """Label values as numbers of organs from 1, uint8 or uint16; raises `ScanError` for a value of no organ."""
    highest = int(frames.max())
    table = np.zeros(max([highest, *(organ.value for organ in organs)]) + 1, np.min_scalar_type(len(organs)))
    for number, organ in enumerate(organs, start=1):
        table[organ.value] = number
    found = np.flatnonzero(np.bincount(frames.ravel(), minlength=1))
    if nameless := [int(value) for value in found if value and not table[value]]:
        raise scan_error(
            path, f"would hold the label value {nameless[0]}, which has no name", "name it, for example with --target"
        )
    return table[frames]


def _make_segmentation(series: Series, frames: Array, organs: Sequence[Organ], author: Author) -> Segmentation:
    import highdicom
    from pydicom.sr.codedict import codes

    algorithm = None
    if author.kind != "MANUAL":
        algorithm = highdicom.AlgorithmIdentificationSequence(
            name=author.name,
            version=author.version,
            family=codes.DCM.ArtificialIntelligence,
            source="frugalseg",
            parameters=dict(author.parameters) if author.parameters else None,
        )
    made = highdicom.seg.Segmentation(
        source_images=series.headers,
        pixel_array=frames,
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[
            _describe(number, organ, series, author, algorithm) for number, organ in enumerate(organs, start=1)
        ],
        series_instance_uid=generate_uid(),
        series_number=SERIES_NUMBER,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="frugalseg",
        manufacturer_model_name=author.name,
        software_versions=author.version,
        device_serial_number="0",
        content_label="SEGMENTATION",
        content_description=author.name,
        omit_empty_frames=bool(frames.any()),
    )
    made.SeriesDescription = author.name
    return made


def _describe(number: int, organ: Organ, series: Series, author: Author, algorithm: Any) -> SegmentDescription:
    import highdicom

    code = organ.code or SOME_ORGAN
    described = highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=organ.name[:64],
        segmented_property_category=_to_concept(code.category),
        segmented_property_type=_to_concept(code.type),
        algorithm_type=author.kind,
        algorithm_identification=algorithm,
        tracking_uid=tracking_uid(series, organ.name),
        tracking_id=organ.name[:64],
        display_color=highdicom.color.CIELabColor.from_rgb(*display_colour(number)),
    )
    described.SegmentDescription = VALUE_TEXT.format(organ.value)
    if code.modifier is not None:
        described.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [
            _to_concept(code.modifier)
        ]
    return described


def _to_concept(code: Code) -> Any:
    import highdicom

    return highdicom.sr.CodedConcept(code.value, code.scheme, code.meaning)


def tracking_uid(series: Series, organ: str) -> str:
    """The identity of an organ of a series: the same in every file that is written for it."""
    return str(generate_uid(entropy_srcs=[str(series.headers[0].SeriesInstanceUID), organ]))


def display_colour(number: int) -> tuple[int, int, int]:
    """Red, green and blue, 0…255, of the segment of this number: hues that differ most from each other first."""
    from colorsys import hsv_to_rgb

    red, green, blue = hsv_to_rgb((0.618034 * (number - 1)) % 1, 0.75, 0.95)
    return round(255 * red), round(255 * green), round(255 * blue)
