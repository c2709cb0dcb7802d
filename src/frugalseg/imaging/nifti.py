"""NIfTI files, through nibabel."""

from __future__ import annotations

import gzip
import warnings
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.openers import ImageOpener
from nibabel.spatialimages import HeaderDataError

from frugalseg.errors import ScanError
from frugalseg.imaging.formats import scan_suffix
from frugalseg.imaging.header import check_header
from frugalseg.imaging.stored import ScanWarning, broken, require_3d, require_file, require_plain, slim
from frugalseg.imaging.volume import Array, Volume

_CHUNK = 1 << 20
_MOST_AFTER = 1 << 26


def load_nifti(path: Path) -> Volume:
    """The volume of a `.nii` or `.nii.gz` file.

    The array keeps the stored integer type where the header holds no scaling, and is float32 otherwise; the affine
    is the file's own. Warns (`ScanWarning`) where the header does not say how the scan lies in the patient.

    Raises:
        ScanError: the file is missing, damaged, no NIfTI, not 3D, in colours or complex, or has zero spacing.
    """
    require_file(path)
    check_header(path, scan_suffix(path))
    with _told(path), ExitStack() as stack:
        image = nib.load(path, mmap=False)
        if not isinstance(image, nib.Nifti1Image):
            raise broken(path, f"is no NIfTI file but {type(image).__name__}", "convert it to .nii.gz")
        shape = require_3d(path, image.shape)
        require_plain(path, image.get_data_dtype())
        _require_spacing(path, image)
        if path.name.lower().endswith(".gz"):
            stream = stack.enter_context(gzip.open(path))
            data = type(image).from_file_map(type(image).make_file_map({"image": stream}), mmap=False).dataobj
            array = _voxels(data).reshape(shape, order="A")
            # Reading on to the end makes gzip compare its checksum: flipped bits are found, not segmented.
            after = 0
            while more := len(stream.read(_CHUNK)):
                after += more
                if after > _MOST_AFTER:
                    raise broken(path, "unpacks to far more than the voxels that its header tells of")
        else:
            array = _voxels(image.dataobj).reshape(shape, order="A")
    volume = Volume(array, image.affine, path)
    _note_unplaced(path, image)
    return volume


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn what nibabel and gzip raise on a broken file into a `ScanError`."""
    try:
        yield
    except ScanError:
        raise
    except MemoryError as error:
        raise broken(
            path, "claims more voxels than memory holds; its header is damaged or the scan too large"
        ) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise broken(path, f"is cut short or damaged ({_first_line(error)})") from error
    except ImageFileError as error:
        raise broken(path, f"is no NIfTI file, or its header is damaged ({_first_line(error)})") from error
    except OSError as error:
        # nibabel says "Expected N bytes, got M" so; a real trouble of the disk has an errno.
        what = error.strerror or f"it is cut short: {_first_line(error)}"
        raise broken(path, f"cannot be read ({what})") from error
    except (HeaderDataError, ValueError, ArithmeticError) as error:
        raise broken(path, f"has a damaged NIfTI header ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _voxels(data: Any) -> Array:
    """The stored voxels, scaled in place where the header asks for it; no float64 copy is made by the scaling."""
    array = slim(data.get_unscaled())
    if (data.slope, data.inter) == (1, 0):
        return array
    scaled = array.astype(np.float32, copy=False)
    if not scaled.flags.writeable:
        scaled = scaled.copy(order="K")
    scaled *= np.float32(data.slope)
    scaled += np.float32(data.inter)
    return scaled


def _require_spacing(path: Path, image: nib.Nifti1Image) -> None:
    """Refuse zero spacing: nibabel sets it to 1 mm, which would be a lie where the affine is made from it."""
    if int(image.header["sform_code"]) > 0:
        return
    with ImageOpener(str(path)) as file:
        header = type(image.header).from_fileobj(file, check=False)
    spacing = tuple(float(s) for s in header["pixdim"][1:4])
    if 0 in spacing:
        raise broken(
            path, f"has zero spacing {spacing}", "correct the header: spacing must be positive in mm on every axis"
        )


def _note_unplaced(path: Path, image: nib.Nifti1Image) -> None:
    if int(image.header["sform_code"]) <= 0 and int(image.header["qform_code"]) <= 0:
        warnings.warn(
            f"{path} does not say how it lies in the patient (sform and qform are unset); "
            f"axes {''.join(nib.aff2axcodes(image.affine))} are assumed",
            ScanWarning,
            stacklevel=4,
        )
