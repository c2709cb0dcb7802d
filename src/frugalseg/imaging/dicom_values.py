"""DICOM: what the stored numbers of a slice mean, and which of them mean nothing.

Only what a modality means by its numbers is applied (rescale slope and intercept, or the Modality LUT). A VOI LUT or
a window tells how to look at them and is left alone.
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
"""The tags that name padding, of integer, float and double pixels."""

_EXPORT = "export the series again, or convert it with dcm2niix and give the NIfTI files"


@dataclass(frozen=True)
class StoredValues:
    """What the header of one slice says of its numbers.

    Attributes:
        slope, intercept: value = stored · slope + intercept; 1 and 0 where there is a Modality LUT.
        rescaling_tags: the tags that say so, in words; slices of one series agree in them.
        has_lut: a Modality LUT turns stored numbers into values.
        unit: RescaleType, "" where it is not told.
        padding: least and greatest stored number that stands for no measurement (PS3.3 C.7.5.1.1.2), or None.
    """

    slope: float
    intercept: float
    rescaling_tags: str
    has_lut: bool
    unit: str
    padding: tuple[float, float] | None

    def find_padding(self, pixels: Array) -> npt.NDArray[np.bool_] | None:
        """Which stored pixels are padding, or None where there is none."""
        if self.padding is None:
            return None
        inside: npt.NDArray[np.bool_] = (pixels >= self.padding[0]) & (pixels <= self.padding[1])
        return inside if inside.any() else None

    def rescale(self, pixels: Array, dataset: Dataset) -> Array:
        """Stored pixels (rows, columns) in the scan's unit: int64 where all values are whole, else float32."""
        if self.has_lut:
            pixels = apply_modality_lut(pixels, dataset)
        whole = pixels.dtype.kind != "f" and self.slope == int(self.slope) and self.intercept == int(self.intercept)
        if whole:
            return pixels.astype(np.int64) * int(self.slope) + int(self.intercept)
        return pixels.astype(np.float32) * np.float32(self.slope) + np.float32(self.intercept)


def read_stored_values(path: Path, dataset: Dataset) -> StoredValues:
    """What the stored numbers of a file mean.

    Raises:
        ScanError: they are no grey values, stand for something that cannot be told, or lie in odd bits.
    """
    _require_grey(path, dataset)
    _require_low_bits(path, dataset)
    has_lut = bool(dataset.get("ModalityLUTSequence"))
    told = () if has_lut else ("RescaleSlope", "RescaleIntercept")  # pydicom, too, lets the table win
    names = [name for name in told if dataset.get(name) not in (None, "")]
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
        raise scan_error(path, f"holds colours ({kind}), expected grey values", "export grey values, not a picture")
    if kind != "MONOCHROME2":
        raise scan_error(
            path,
            f"stores bright as low ({kind}), expected low values to be dark (MONOCHROME2)",
            "export the series again as MONOCHROME2",
        )


def _require_low_bits(path: Path, dataset: Dataset) -> None:
    """The numbers must fill the lowest bits, as DICOM has asked for since 2006; older files may hold others there."""
    stored, high = dataset.get("BitsStored"), dataset.get("HighBit")
    if stored is not None and high is not None and int(high) != int(stored) - 1:
        raise scan_error(
            path, f"stores {stored} bits below bit {high} (HighBit), expected HighBit {int(stored) - 1}", _EXPORT
        )


def _read_padding(dataset: Dataset) -> tuple[float, float] | None:
    """Both ends of the padding among the stored numbers.

    Integers are wrapped as the pixels are when they are decoded: writers put −2000 as 63536, or beyond BitsStored.
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
