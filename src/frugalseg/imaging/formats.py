"""Which files are scans, by their names."""

from __future__ import annotations

from pathlib import Path

NIFTI = (".nii.gz", ".nii")
ITK = (".nrrd", ".nhdr", ".mha", ".mhd")
SUFFIXES = (*NIFTI, *ITK)


def suffix(path: Path) -> str | None:
    """The ending that makes `path` a scan file, or None."""
    name = path.name.lower()
    return next((ending for ending in SUFFIXES if name.endswith(ending) and name != ending), None)


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM: by its preamble, or by its ending."""
    if path.suffix.lower() == ".dcm":
        return True
    if suffix(path) is not None:
        return False
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def dicom_files(folder: Path) -> list[Path]:
    """The DICOM files of a folder itself, by name; hidden files aside."""
    files = (path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith("."))
    return [path for path in files if is_dicom(path)]
