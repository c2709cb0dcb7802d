"""DICOM SEG by highdicom, which is not a dependency of frugalseg."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pydicom

from frugalseg._version import __version__
from frugalseg.annotation.session import Session
from frugalseg.engine.files import atomic_write
from frugalseg.errors import ScanError
from frugalseg.imaging.dicom_series import list_slices, sort_slices

if TYPE_CHECKING:
    from highdicom.seg import Segmentation


def write_dicom_seg(session: Session, case: str, path: Path) -> None:
    """Write the mask of a case that was read from a DICOM series, with one segment for each label drawn in it."""
    try:
        segmentation = _make_segmentation(session, case)
    except (AttributeError, TypeError, ValueError) as error:  # tags that highdicom needs and the series lacks
        raise ScanError(f"{case} cannot become DICOM SEG ({error})", "export NIfTI instead") from error
    with atomic_write(path) as file:
        segmentation.save_as(file)


def _make_segmentation(session: Session, case: str) -> Segmentation:
    import highdicom
    from pydicom.sr.codedict import codes

    display = session.open(case)
    source = session.scans.path(case)
    images = [pydicom.dcmread(one.path) for one in sort_slices(list_slices(source), source)]
    mask = display.mask_volume(session.slices.masks(case, display.pixels))
    # The reader turns rows so that they run from the bottom up; see `imaging.dicom.load_dicom`.
    stack = np.ascontiguousarray(np.asarray(mask.array).transpose(2, 1, 0)[:, ::-1])
    labels = [label for label in session.labels.all() if (stack == label.value).any()]
    planes = np.stack([stack == label.value for label in labels], axis=-1).astype(np.uint8)
    return highdicom.seg.Segmentation(
        source_images=images,
        pixel_array=planes,
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[
            highdicom.seg.SegmentDescription(
                segment_number=number,
                segment_label=label.name,
                segmented_property_category=codes.SCT.AnatomicalStructure,
                segmented_property_type=codes.SCT.Organ,
                algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.MANUAL,
            )
            for number, label in enumerate(labels, start=1)
        ],
        series_instance_uid=highdicom.UID(),
        series_number=900,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer="frugalseg",
        manufacturer_model_name="frugalseg annotate",
        software_versions=__version__,
        device_serial_number="0",
    )
