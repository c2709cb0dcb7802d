"""DICOM: rescaling of the stored values of a slice, and which of them are padding.

Only the modality transform is applied (rescale slope and intercept, or the Modality LUT). A VOI LUT or a window only
affects the display and is ignored.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.pixels import apply_modality_lut

from frugalseg.imaging.validation import scan_error
from frugalseg.imaging.volume import Array

_PADDING = (
    ("PixelPaddingValue", "PixelPaddingRangeLimit"),
    ("FloatPixelPaddingValue", "FloatPixelPaddingRangeLimit"),
    ("DoubleFloatPixelPaddingValue", "DoubleFloatPixelPaddingRangeLimit"),
)
"""The tags that define padding, for integer, float and double pixels."""

_EXPORT = "export the series again, or convert it with dcm2niix and give the NIfTI files"


@dataclass(frozen=True)
class StoredValues:
    """How the stored values of one slice become values in the unit of the scan.

    Attributes:
        slope, intercept: value = stored · slope + intercept; 1 and 0 if there is a Modality LUT.
        rescaling_tags: names of the tags that define it, for messages; the same in all slices of a series.
        has_lut: whether a Modality LUT maps stored values to values.
        unit: RescaleType, "" if it is not stated.
        padding: lowest and highest stored value that is padding (PS3.3 C.7.5.1.1.2), or None.
    """

    slope: float
    intercept: float
    rescaling_tags: str
    has_lut: bool
    unit: str
    padding: tuple[float, float] | None

    def find_padding(self, pixels: Array) -> npt.NDArray[np.bool_] | None:
        """Mask of the stored pixels that are padding, or None if there are none."""
        if self.padding is None:
            return None
        inside: npt.NDArray[np.bool_] = (pixels >= self.padding[0]) & (pixels <= self.padding[1])
        return inside if inside.any() else None

    def rescale(self, pixels: Array, dataset: Dataset) -> Array:
        """Stored pixels (rows, columns) in the unit of the scan: int64 if all values are integers, else float32."""
        if self.has_lut:
            pixels = apply_modality_lut(pixels, dataset)
        whole = pixels.dtype.kind != "f" and self.slope == int(self.slope) and self.intercept == int(self.intercept)
        if whole:
            return pixels.astype(np.int64) * int(self.slope) + int(self.intercept)
        return pixels.astype(np.float32) * np.float32(self.slope) + np.float32(self.intercept)


def read_stored_values(path: Path, dataset: Dataset) -> StoredValues:
    """How the stored values of a file are rescaled.

    Raises:
        ScanError: they are not grey values, their rescaling is unusable, or they do not fill the lowest bits.
    """
    _require_grey(path, dataset)
    _require_low_bits(path, dataset)
    has_lut = bool(dataset.get("ModalityLUTSequence"))
    tags = () if has_lut else ("RescaleSlope", "RescaleIntercept")  # as in pydicom, the LUT takes precedence
    names = [name for name in tags if dataset.get(name) not in (None, "")]
    slope, intercept = (
        float(dataset[name].value) if name in names else usual
        for name, usual in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0))
    )
    if slope == 0 or not np.isfinite([slope, intercept]).all():
        raise scan_error(
            path, f"has RescaleSlope {slope:g} and RescaleIntercept {intercept:g}: its values are lost", _EXPORT
        )
    return StoredValues(
        slope=slope,
        intercept=intercept,
        rescaling_tags="ModalityLUTSequence" if has_lut else " and ".join(names) or "no rescaling",
        has_lut=has_lut,
        unit=str(dataset.get("RescaleType") or ""),
        padding=_read_padding(dataset),
    )


def _require_grey(path: Path, dataset: Dataset) -> None:
    kind = str(dataset.get("PhotometricInterpretation") or "MONOCHROME2")
    if int(dataset.get("SamplesPerPixel") or 1) != 1 or not kind.startswith("MONOCHROME"):
        raise scan_error(path, f"holds colours ({kind}), expected grey values", "export grey values")
    if kind != "MONOCHROME2":
        raise scan_error(
            path,
            f"stores bright pixels as low values ({kind}), expected MONOCHROME2 (low values are dark)",
            "export the series again as MONOCHROME2",
        )


def _require_low_bits(path: Path, dataset: Dataset) -> None:
    """Raise `ScanError` unless values fill the lowest bits, as DICOM requires since 2006; older files may differ."""
    stored, high = dataset.get("BitsStored"), dataset.get("HighBit")
    if stored is not None and high is not None and int(high) != int(stored) - 1:
        raise scan_error(
            path, f"stores {stored} bits below bit {high} (HighBit), expected HighBit {int(stored) - 1}", _EXPORT
        )


def _read_padding(dataset: Dataset) -> tuple[float, float] | None:
    """The lowest and highest stored value that is padding, or None.

    Integers are wrapped as decoded pixels are: some programs write −2000 as 63536, or beyond BitsStored.
    """
    for name, limit_name in _PADDING:
        value, limit = dataset.get(name), dataset.get(limit_name)
        if value not in (None, ""):
            ends = [value, value if limit in (None, "") else limit]
            break
    else:
        return None
    if name == _PADDING[0][0]:
        bits, signed = int(dataset.BitsStored), int(dataset.get("PixelRepresentation") or 0) == 1
        ends = [_wrap(int(end), bits, signed) for end in ends]
    low, high = sorted(float(end) for end in ends)
    return low, high


def _wrap(value: int, bits: int, signed: bool) -> int:
    low = value % (1 << bits)
    return low - (1 << bits) if signed and low >= 1 << (bits - 1) else low
