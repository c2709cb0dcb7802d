"""Scale the intensities of a scan to [0, 1]: CT by a window in HU, MR by percentiles of the scan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from frugalseg.errors import OptionError

if TYPE_CHECKING:
    from frugalseg.imaging.volume import Array

SAMPLE = 1 << 21
"""Number of voxels from which percentiles of larger scans are computed; at 0.5%, the rank error is about 0.005%."""

FAT_HU = -30.0
FAT_SHARE = 0.01

LEAST_HU = -1024
PADDING_GAP, PADDING_SHARE = 500, 0.01


@dataclass(frozen=True)
class IntensityScale:
    """How intensities are scaled to [0, 1].

    Attributes:
        kind: "ct": `low` and `high` are HU. "mr": they are percentiles of each scan, 0…100.
        low: maps to 0.
        high: maps to 1.

    Raises:
        OptionError: unknown kind, bounds in the wrong order, or percentiles outside 0…100.
    """

    kind: Literal["ct", "mr"]
    low: int | float  # both types, so that files store the number as it was given
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
        """The values of this scan that map to 0 and 1; always lower < upper.

        For MR, percentiles of all voxels except those equal to `padding` (see `Volume`), or of a fixed random sample
        of a large scan. If the percentiles coincide (a scan that is nearly all background), the minimum and maximum.
        """
        if self.kind == "ct":
            return float(self.low), float(self.high)
        values = _drop_padding(_sample_voxels(array), padding)
        low, high = (float(v) for v in np.percentile(values, (self.low, self.high)))
        if not _are_separable(low, high):
            values = _drop_padding(array.reshape(-1), padding)
            low, high = float(values.min()), float(values.max())
        return (low, high) if _are_separable(low, high) else (low, low + max(1.0, abs(low)))

    def apply(self, array: Array, limits: tuple[float, float], padding: float | None = None) -> npt.NDArray[np.float32]:
        """`array` of any shape and real type as contiguous float32 in [0, 1]; `limits` are the result of `fit`.

        Voxels equal to `padding` (see `Volume`) become 0, whatever the limits. Computed in float32, without a float64
        copy; in float16, adjacent HU would coincide.
        """
        low, high = limits
        scaled = array.astype(np.float32, order="C")
        scaled -= np.float32(low)
        scaled /= np.float32(high - low)
        np.clip(scaled, 0, 1, out=scaled)
        if padding is not None:
            scaled[array == padding] = 0
        return scaled


def detect_padding(array: Array) -> tuple[float, float, float, float] | None:
    """A value that looks like padding: many voxels have it, and it lies far outside the range of the others.

    Far outside means: below −1024 (the lowest HU) and 500 below the others; or at least 32767 (−2000 and −32768 read
    as unsigned) and above the others by more than their range. An estimate from a sample, reliable enough for a
    warning.

    Returns:
        The value, the fraction of voxels that have it, and the minimum and maximum of the others; or None.
    """
    sample = _sample_voxels(array)
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

    Every CT of a body has such voxels, from air (−1000) and fat (about −100), even if clipped at −40. MR and PET
    magnitudes are not negative, and interpolation undershoots in fewer voxels; z-scored scans stay above −30; CT
    stored without its offset of −1024 has no negative values. An estimate, reliable enough for a warning.
    """
    sample = _sample_voxels(array)
    return bool(np.count_nonzero(sample <= FAT_HU) >= FAT_SHARE * sample.size)


def _sample_voxels(array: Array) -> Array:
    """All voxels of a small array, or a fixed random sample of `SAMPLE` voxels of a large one; shape (N,)."""
    if array.size <= SAMPLE:
        return array.reshape(-1)
    draw = np.random.default_rng(0)
    return array[tuple(draw.integers(0, n, SAMPLE) for n in array.shape)]


def _drop_padding(values: Array, padding: float | None) -> Array:
    """Values (N,) without padding; all values if there is nothing else."""
    kept = values if padding is None else values[values != padding]
    return kept if kept.size else values


def _are_separable(low: float, high: float) -> bool:
    """Whether the values differ enough to divide by their difference in float32."""
    return high - low > 1e-6 * max(abs(low), abs(high))
