"""File types: suffixes of scan files, detection of DICOM files, and case ids from file names."""

from __future__ import annotations

from pathlib import Path

from frugalseg.errors import ScanError, to_printable

NIFTI = (".nii.gz", ".nii", ".nii.bz2")
MGH = (".mgz", ".mgh")
ITK = (".seg.nrrd", ".nrrd", ".nhdr", ".mha", ".mhd")
SCAN_SUFFIXES = NIFTI + MGH + ITK
"""Suffixes of files with one scan each; `DICOM` files are recognised by their content."""

ZARR = (".ome.zarr", ".zarr")
"""Suffixes of folders with one OME-Zarr image each."""

DICOM = (".dcm", ".dicom", ".ima")

ACCEPTED_FORMATS = (
    "NIfTI (.nii, .nii.gz, .nii.bz2), FreeSurfer (.mgz, .mgh), NRRD (.nrrd, .nhdr), MetaImage (.mha, .mhd), "
    "OME-Zarr (.zarr), or a folder of DICOM files"
)
"""The accepted formats, for messages."""

DOCUMENTS = {".txt", ".md", ".xml", ".json", ".yaml", ".csv", ".tsv", ".pdf", ".html", ".htm", ".log", ".db", ".ini"}
PICTURES = {".jpg", ".jpeg", ".png"}
"""Suffixes of files that may lie beside scans and slices, but are neither."""

DICOM_INDEX = "DICOMDIR"
"""A file in DICOM format that lists scans but contains none."""


def scan_suffix(path: Path) -> str | None:
    """The suffix of a NIfTI, MGH, NRRD or MetaImage file in lower case, or None for any other name.

    Only the name is used. The longest matching suffix counts, such as `.seg.nrrd` before `.nrrd`.
    """
    name = path.name.lower()
    return next((suffix for suffix in SCAN_SUFFIXES if name.endswith(suffix) and name != suffix), None)


def zarr_suffix(path: Path) -> str | None:
    """The suffix of an OME-Zarr folder in lower case, or None for any other folder or file."""
    name = path.name.lower()
    return next((s for s in ZARR if name.endswith(s) and name != s), None) if path.is_dir() else None


def is_dicom_file(path: Path) -> bool:
    """Whether a file begins like DICOM: `DICM` after the preamble, or directly with elements of group 2 or 8."""
    if path.name.upper() == DICOM_INDEX or scan_suffix(path) is not None or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            head = file.read(132)
    except OSError:
        return False
    if head[128:132] == b"DICM":
        return True
    # Files from before 1993 and some exports have no preamble: they begin with group 2 or 8, element below 0x100.
    return len(head) == 132 and head[:2] in (b"\x02\x00", b"\x08\x00") and head[3] == 0


def is_dicom_folder(path: Path) -> bool:
    """Whether a DICOM file lies directly in this folder."""
    return path.is_dir() and any(is_dicom_file(entry) for entry in list_visible(path))


def list_visible(folder: Path) -> list[Path]:
    """The entries of a folder sorted by name, without hidden ones (macOS writes `._scan.nii.gz` beside scans).

    Raises:
        ScanError: the folder cannot be opened.
    """
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise ScanError(f"{folder} cannot be opened ({error.strerror})", "check its permissions") from error


def case_id(path: Path) -> str:
    """The case id of a scan: the file name without its suffix, or the name of a DICOM folder.

    `liver_0.nii.gz` → `liver_0`, `a.b.nrrd` → `a.b`, `p1.ome.zarr/` → `p1`, folder `patient.7/` → `patient.7`.

    Raises:
        ScanError: the name is not valid UTF-8, and could not be written to any record of the case.
    """
    if to_printable(path.name) != path.name:
        raise ScanError(f"the name of {to_printable(path)} is not valid UTF-8", "rename it")
    if (suffix := zarr_suffix(path)) is not None:
        return path.name[: -len(suffix)]
    if path.is_dir():
        return path.name if path.name not in ("", "..") else path.resolve().name
    suffix = scan_suffix(path)
    if suffix is None:
        suffix = next((s for s in DICOM if path.name.lower().endswith(s)), "")
    return path.name[: len(path.name) - len(suffix)]
