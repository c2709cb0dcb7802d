"""Masks drawn on the page as DICOM SEG."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from frugalseg._version import __version__
from frugalseg.annotation.session import Session
from frugalseg.imaging.segments.codes import SOME_ORGAN, read_codes, to_key
from frugalseg.imaging.segments.seg_writer import write_seg
from frugalseg.imaging.segments.source import Author, Organ

AUTHOR = Author("frugalseg annotate", __version__, "MANUAL")


def write_dicom_seg(session: Session, case: str, path: Path) -> None:
    """Write the mask of a case that was read from a DICOM series, with one segment for each label drawn in it.

    A label whose name has no coded term is an organ, whatever it is.

    Raises:
        ScanError: the series lacks tags that DICOM SEG needs.
    """
    display = session.open(case)
    mask = display.mask_volume(session.slices.masks(case, display.pixels))
    codes, drawn = read_codes(), np.bincount(mask.array.ravel(), minlength=256)
    organs = [
        Organ(label.name, label.value, codes.get(to_key(label.name), SOME_ORGAN))
        for label in session.labels.all()
        if drawn[label.value]
    ]
    write_seg(mask, path, session.scans.path(case), organs, AUTHOR)
