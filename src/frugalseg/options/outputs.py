"""Options of the commands that write masks of whole scans."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

OutputType = Literal["scan", "nifti", "nrrd", "dicom-seg", "rtstruct"]


@dataclass(frozen=True, kw_only=True)
class MaskOutputOptions:
    """How masks are written, and what beside them."""

    output_type: OutputType = "scan"
    """File format of the masks. scan: that of the scan, NIfTI for DICOM. dicom-seg, rtstruct: a DICOM object in the
    study of the scan, which must be a DICOM series."""
    segment_codes: Path | None = None
    """With dicom-seg or rtstruct: a CSV file with coded terms of organs that frugalseg does not know, with the columns
    name, value and meaning (SNOMED CT; others by scheme)."""
    preview: bool = False
    """Also write a picture and a page with a slice viewer for each scan, in <out>/previews."""
