"""Intensities of a scan become [0, 1]: CT by a window in HU, MR by percentiles of the scan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from frugalseg.errors import OptionError

if TYPE_CHECKING:
    from frugalseg.imaging.volume import Array

SAMPLE = 1 << 21
"""Percentiles of larger scans are taken from so many voxels; at 0.5% their rank is then off by about 0.005%."""

FAT_HU = -30.0
FAT_SHARE = 0.01

LEAST_HU = -1024
PADDING_GAP, PADDING_SHARE = 500, 0.01


@dataclass(frozen=True)
class IntensityScale:
    """How intensities become [0, 1].

    Attributes:
        kind: "ct": `low` and `high` are HU. "mr": they are percentiles of each scan, 0…100.
        low: shown as 0.
        high: shown as 1.

    Raises:
        OptionError: unknown kind, bounds in the wrong order, or percentiles outside 0…100.
    """

    kind: Literal["ct", "mr"]
    low: int | float  # of both kinds, as files keep what was given
    high: int | float

    def __post_init__(self) -> None:
        if self.kind not in ("ct", "mr"):
            raise OptionError(f"--modality {self.kind!r}: expected ct or mr", "give one of them")
        option = "--window" if self.kind == "ct" else "--percentiles"
        if not (np.isfinite([self.low, self.high]).all() and self.low < self.high):
            raise OptionError(f"{option} {self.low} {self.high}: expected a lower and a higher number", "correct it")
        if self.kind == "mr" and not (0 <= self.low and self.high <= 100):
            raise OptionError(f"{option} {self.low} {self.high}: expected percentiles from 0 to 100", "correct it")

    def fit(self, array: Array, padding: float | None = None) -> tuple[float, float]:
        """The values of this scan that are shown as 0 and 1.

        For MR, percentiles of all voxels but those of the value `padding` (see `Volume`), or of a fixed random sample
        of a large scan; where the percentiles fall together (a scan that is nearly all background), the least and the
        greatest value. Always lower < upper.
        """
        if self.kind == "ct":
            return float(self.low), float(self.high)
        values = _measured(_sample(array), padding)
        low, high = (float(v) for v in np.percentile(values, (self.low, self.high)))
        if not _apart(low, high):
            values = _measured(array.reshape(-1), padding)
            low, high = float(values.min()), float(values.max())
        return (low, high) if _apart(low, high) else (low, low + max(1.0, abs(low)))

    def apply(self, array: Array, limits: tuple[float, float], padding: float | None = None) -> npt.NDArray[np.float32]:
        """`array` of any shape and real type as contiguous float32 in [0, 1]; `limits` are those of `fit`.

        Voxels of the value `padding` (see `Volume`) are shown as 0, wherever the limits lie. Computed in float32
        (METHODS 7.2: in float16, neighbouring HU fall together); no float64 copy is made.
        """
        low, high = limits
        scaled = array.astype(np.float32, order="C")
        scaled -= np.float32(low)
        scaled /= np.float32(high - low)
        np.clip(scaled, 0, 1, out=scaled)
        if padding is not None:
            scaled[array == padding] = 0
        return scaled


def padding_in(array: Array) -> tuple[float, float, float, float] | None:
    """A value that looks like padding: many voxels hold it, and it lies far outside the others.

    Far is: below −1024 (no HU is) by a gap of 500, or from 32767 on (−2000 and −32768 read as unsigned) and above the
    others by more than their range. A guess from a sample, good for a warning.

    Returns:
        The value, the share of the voxels that hold it, and the least and the greatest of the others; or None.
    """
    sample = _sample(array)
    low, high = float(sample.min()), float(sample.max())
    for value in (v for v in (low, high) if not LEAST_HU <= v < np.iinfo(np.int16).max):
        rest = sample[sample != value]
        share = 1 - rest.size / sample.size
        if share < PADDING_SHARE or not rest.size:
            continue
        least, greatest = float(rest.min()), float(rest.max())
        gap, usual = (least - value, PADDING_GAP) if value == low else (value - greatest, greatest - least)
        if gap >= usual > 0:
            return value, share, least, greatest
    return None


def looks_like_hu(array: Array) -> bool:
    """Whether a scan may be CT in HU: at least 1% of its voxels are at or below −30.

    Air (−1000) and fat (about −100) put every CT of a body below that, even one already clipped at −40. MR and PET
    magnitudes are not negative, and their interpolation undershoots in fewer voxels; z-scored scans stay above −30;
    CT stored without its offset of −1024 has no negative values. A guess, good for a warning.
    """
    sample = _sample(array)
    return bool(np.count_nonzero(sample <= FAT_HU) >= FAT_SHARE * sample.size)


def _sample(array: Array) -> Array:
    """All voxels of a small array, or `SAMPLE` of a large one, always the same ones; shape (N,)."""
    if array.size <= SAMPLE:
        return array.reshape(-1)
    draw = np.random.default_rng(0)
    return array[tuple(draw.integers(0, n, SAMPLE) for n in array.shape)]


def _measured(values: Array, padding: float | None) -> Array:
    """Values (N,) without padding; all of them where nothing else is left."""
    kept = values if padding is None else values[values != padding]
    return kept if kept.size else values


def _apart(low: float, high: float) -> bool:
    """Whether float32 can tell the two apart well enough to divide by their difference."""
    return high - low > 1e-6 * max(abs(low), abs(high))
