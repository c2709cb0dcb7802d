"""NRRD and MetaImage files, through SimpleITK."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK

from frugalseg.imaging.formats import scan_suffix
from frugalseg.imaging.header import check_header
from frugalseg.imaging.validation import require_3d, require_file, require_real_numbers, scan_error, to_working_dtype
from frugalseg.imaging.volume import Array, Placement, Volume

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""ITK and DICOM use LPS coordinates (towards left, posterior, superior); affines in this package use RAS."""

_UNIT = re.compile(rb"^(space units|units|DistanceUnits)\s*(?::(?!=)|=)\s*(.+?)\s*$", re.MULTILINE | re.IGNORECASE)
_PATIENT_SPACE = re.compile(rb"^space\s*:\s*([lr][ap]s|(left|right)-)", re.MULTILINE | re.IGNORECASE)
_MM = {"mm", "millimeter", "millimetre", "millimeters", "millimetres", "", "?", "???", "none"}
_HEADER_BYTES = 1 << 16


def load_itk(path: Path) -> Volume:
    """The volume of a `.nrrd`, `.nhdr`, `.mha` or `.mhd` file.

    The array keeps the stored integer type, or is float32; the affine has the stored directions, including shear.

    Raises:
        ScanError: the file is missing, damaged, not 3D, holds several values per voxel, has zero spacing, or is not
            measured in mm.
    """
    require_file(path)
    check_header(path, scan_suffix(path))
    header = _read_header(path)
    _require_mm(path, header)
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        shape = _require_volume(path, reader)
        reader.SetExtractSize([*shape, *[0] * (reader.GetDimension() - 3)])
        if reader.GetPixelID() in (SimpleITK.sitkFloat64, SimpleITK.sitkVectorFloat64):
            reader.SetOutputPixelType(
                SimpleITK.sitkFloat32 if reader.GetPixelID() == SimpleITK.sitkFloat64 else SimpleITK.sitkVectorFloat32
            )
        image = reader.Execute()
    except RuntimeError as error:
        # ITK's messages are long and sometimes wrong ("no such file" for a truncated file); they are only chained.
        problem = f"cannot be read: it is truncated, damaged, or no {_format_name(path)} file"
        raise scan_error(path, problem) from error
    array: Array = SimpleITK.GetArrayFromImage(image)
    require_real_numbers(path, array.dtype)
    return Volume(
        to_working_dtype(array.reshape(shape[::-1])).transpose(2, 1, 0),
        _image_affine(image),
        path,
        _read_placement(path, header, image),
    )


def to_itk_image(volume: Volume) -> Any:
    """`volume` as a SimpleITK image on the same grid."""
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(volume.array.transpose(2, 1, 0)))
    lps = LPS_TO_RAS @ volume.affine
    image.SetSpacing(volume.spacing)
    image.SetDirection((lps[:3, :3] / volume.spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    return image


def _format_name(path: Path) -> str:
    return "NRRD" if path.suffix.lower() in (".nrrd", ".nhdr") else "MetaImage"


def _read_header(path: Path) -> bytes:
    """The header text before the voxels, at most its first `_HEADER_BYTES`."""
    with path.open("rb") as file:
        head = file.read(_HEADER_BYTES)
    return re.split(rb"\r?\n\r?\n|ElementDataFile", head, maxsplit=1)[0]


def _require_mm(path: Path, header: bytes) -> None:
    """Raise `ScanError` for units other than mm: ITK treats all lengths as mm."""
    for name, stated in _UNIT.findall(header):
        units = [unit.strip('"') for unit in re.findall(r'"[^"]*"|\S+', stated.decode("latin-1"))]
        # A fourth axis of length 1 may be measured in units of time.
        if other := [unit for unit in units[:3] if unit.lower() not in _MM]:
            raise scan_error(
                path,
                f"is measured in {other[0]!r} ({name.decode('latin-1')}), expected mm",
                "convert spacing and origin in its header to mm",
            )


def _read_placement(path: Path, header: bytes, image: Any) -> Placement:
    if _format_name(path) != "NRRD" or _PATIENT_SPACE.search(header):
        return Placement()
    axes = Volume(np.zeros(image.GetSize()[:3], np.bool_), _image_affine(image)).axes
    doubt = (
        f"does not state its orientation in the patient (no anatomical space in its header); axes {axes} are assumed"
    )
    return Placement(doubts=(doubt,))


def _require_volume(path: Path, reader: Any) -> tuple[int, int, int]:
    shape = require_3d(path, reader.GetSize())
    if reader.GetNumberOfComponents() != 1:
        raise scan_error(
            path,
            f"holds {reader.GetNumberOfComponents()} values per voxel (colours, a vector field, or several layers), "
            "expected one",
            "export one grey-value volume or one label map per file",
        )
    spacing = reader.GetSpacing()[:3]
    if 0 in spacing:
        raise scan_error(
            path, f"has zero spacing {spacing}", "correct the header: spacing must be positive in mm on every axis"
        )
    return shape


def _image_affine(image: Any) -> npt.NDArray[np.float64]:
    lps = np.eye(4)
    lps[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    lps[:3, 3] = image.GetOrigin()
    return LPS_TO_RAS @ lps
