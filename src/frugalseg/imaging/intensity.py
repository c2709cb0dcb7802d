"""Intensities: what a scanner measured becomes [0, 1]."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from frugalseg.errors import OptionError
from frugalseg.imaging.volume import Array
from frugalseg.options import Modality

MOST_SAMPLES = 2_000_000


@dataclass(frozen=True)
class IntensityScale:
    """How intensities of one modality are scaled.

    Attributes:
        kind: "ct", a window in HU, the same for every scan; "mr", percentiles of each scan's own voxels.
        low, high: the window's ends in HU, or the percentiles in 0…100, that become 0 and 1.
    """

    kind: Modality
    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise OptionError(f"intensity scale {self.low:g}…{self.high:g} is empty", "give the lower end first")

    def fit(self, array: Array) -> tuple[float, float]:
        """The values of this scan that become 0 and 1.

        Percentiles come from at most about two million voxels spread evenly, in constant memory. Where they
        coincide (a constant scan, or mostly background), the whole range is taken, and of a constant scan one unit.
        """
        if self.kind == "ct":
            return self.low, self.high
        step = max(1, round((array.size / MOST_SAMPLES) ** (1 / 3)))
        sample = array[::step, ::step, ::step].astype(np.float32)
        low, high = (float(v) for v in np.percentile(sample, [self.low, self.high]))
        if low == high:
            low, high = float(array.min()), float(array.max())
        return low, high if high > low else low + 1.0

    @staticmethod
    def apply(array: Array, limits: tuple[float, float]) -> npt.NDArray[np.float32]:
        """A float32 copy of `array`, clipped to `limits` and scaled so that they are 0 and 1."""
        low, high = (np.float32(v) for v in limits)
        scaled = np.array(array, dtype=np.float32)
        np.clip(scaled, low, high, out=scaled)
        scaled -= low
        scaled /= high - low
        return scaled

    def to_dict(self) -> dict[str, Any]:
        """As JSON keeps it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> IntensityScale:
        """From what `to_dict` gave."""
        return cls(**content)


def looks_like_hu(array: Array) -> bool:
    """Whether values may be HU: some lie below −20, as fat and air do.

    MR has no negative values. CT that was clipped by its makers still has its fat; a rule for a warning, no proof.
    """
    return bool(array.min() < -20)
