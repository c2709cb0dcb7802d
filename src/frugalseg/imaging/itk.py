"""NRRD and MetaImage files, through SimpleITK."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk  # noqa: N813 - the library's own custom

from frugalseg.errors import ScanError
from frugalseg.imaging.volume import Volume

sitk.ProcessObject.SetGlobalWarningDisplay(False)

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


def read_itk(path: Path) -> Volume:
    """Read an NRRD or MetaImage file; ITK's LPS coordinates become RAS.

    Raises:
        ScanError: the file is damaged, has several channels, or axes that ITK refuses.
    """
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise ScanError(
            f"{path} cannot be read: {reason}", "the file is damaged or cut off: copy or export it again"
        ) from error
    if image.GetDimension() == 4 and image.GetSize()[3] == 1:
        image = image[:, :, :, 0]
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise ScanError(
            f"{path} has {image.GetDimension()} dimensions and {image.GetNumberOfComponentsPerPixel()} channels, "
            "expected one 3D volume of one channel",
            "give one file per scan, with three axes and one channel",
        )
    return Volume(sitk.GetArrayFromImage(image).transpose(2, 1, 0), itk_affine(image), path)


def itk_affine(image: Any) -> npt.NDArray[np.float64]:
    """The RAS+ affine of a SimpleITK image."""
    affine = np.eye(4)
    direction = np.array(image.GetDirection()).reshape(3, 3)
    affine[:3, :3] = LPS_TO_RAS @ direction @ np.diag(image.GetSpacing())
    affine[:3, 3] = LPS_TO_RAS @ np.array(image.GetOrigin())
    return affine


def write_itk(volume: Volume, path: Path) -> None:
    """Write a mask as NRRD or MetaImage, compressed.

    Raises:
        ScanError: the grid is sheared, which these formats cannot say.
    """
    spacing = np.array(volume.spacing)
    direction = LPS_TO_RAS @ volume.affine[:3, :3] / spacing
    if not np.allclose(direction.T @ direction, np.eye(3), atol=1e-4):
        raise ScanError(
            f"the grid of {volume.source or path} is sheared, which {path.suffix} files cannot hold",
            "convert the scan to NIfTI and give it again",
        )
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.array.transpose(2, 1, 0)))
    image.SetSpacing(spacing.tolist())
    image.SetDirection(direction.ravel().tolist())
    image.SetOrigin((LPS_TO_RAS @ volume.affine[:3, 3]).tolist())
    sitk.WriteImage(image, str(path), useCompression=True)
