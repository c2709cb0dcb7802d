"""NRRD and MetaImage files, through SimpleITK."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK

from frugalseg.imaging.formats import scan_suffix
from frugalseg.imaging.header import check_header
from frugalseg.imaging.stored import broken, require_3d, require_file, require_plain, slim
from frugalseg.imaging.volume import Array, Volume

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""ITK and DICOM count to the patient's left and posterior, our affines to right and anterior."""


def load_itk(path: Path) -> Volume:
    """The volume of a `.nrrd`, `.nhdr`, `.mha` or `.mhd` file.

    The array keeps the stored integer type, or is float32; the affine holds the stored directions, sheared or not.

    Raises:
        ScanError: the file is missing, damaged, not 3D, holds several numbers per voxel, or has zero spacing.
    """
    require_file(path)
    check_header(path, scan_suffix(path))
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
        # ITK's own words are long and sometimes wrong ("no such file" for a file cut short): they stay in the chain.
        raise broken(path, f"cannot be read: it is cut short, damaged, or no {_kind(path)} file") from error
    array: Array = SimpleITK.GetArrayFromImage(image)
    require_plain(path, array.dtype)
    return Volume(slim(array.reshape(shape[::-1])).transpose(2, 1, 0), _affine(image), path)


def itk_image(volume: Volume) -> Any:
    """`volume` as a SimpleITK image on the same grid."""
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(volume.array.transpose(2, 1, 0)))
    lps = LPS_TO_RAS @ volume.affine
    image.SetSpacing(volume.spacing)
    image.SetDirection((lps[:3, :3] / volume.spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    return image


def _kind(path: Path) -> str:
    return "NRRD" if path.suffix.lower() in (".nrrd", ".nhdr") else "MetaImage"


def _require_volume(path: Path, reader: Any) -> tuple[int, int, int]:
    shape = require_3d(path, reader.GetSize())
    if reader.GetNumberOfComponents() != 1:
        raise broken(
            path,
            f"holds {reader.GetNumberOfComponents()} numbers per voxel (colours, a vector field, or several layers), "
            "expected one",
            "export one grey-value volume or one label map per file",
        )
    spacing = reader.GetSpacing()[:3]
    if 0 in spacing:
        raise broken(
            path, f"has zero spacing {spacing}", "correct the header: spacing must be positive in mm on every axis"
        )
    return shape


def _affine(image: Any) -> npt.NDArray[np.float64]:
    lps = np.eye(4)
    lps[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    lps[:3, 3] = image.GetOrigin()
    return LPS_TO_RAS @ lps
