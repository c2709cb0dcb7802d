"""The simulated patient: size, pose, fat, contrast phase, and the resulting Hounsfield units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np
import numpy.typing as npt

from frugalseg.phantoms.canvas import Pose, Wave, rotation_matrix
from frugalseg.phantoms.tissue import HU_BY_PHASE, HU_SPREAD, PHASE_SHARE, PHASES


@dataclass(frozen=True)
class Patient:
    """The properties of one patient that several organs share.

    Attributes:
        seed: seed of the shapes of all organs.
        phase: contrast phase, one of `PHASES`.
        hu: Hounsfield units of this patient's tissues.
        fat_mm: thickness of the subcutaneous fat at the flank.
        oral_contrast: whether stomach and bowel are filled with positive contrast.
        noise_hu: standard deviation of the noise in the centre of the body.
        pose: how the body lies in the scanner.
    """

    seed: int
    phase: str
    hu: dict[str, float]
    fat_mm: float
    oral_contrast: bool
    noise_hu: float
    pose: Pose

    def rng(self, organ: str) -> np.random.Generator:
        """Random generator of one organ: the same at every call, and independent of other organs."""
        return np.random.default_rng([self.seed, crc32(organ.encode())])

    def jitter(self, organ: str, centre: Sequence[float], sigma_mm: float = 4.0) -> npt.NDArray[np.float64]:
        """Position (mm) of this patient's organ, whose usual position is `centre` (mm)."""
        moved: npt.NDArray[np.float64] = (
            np.asarray(centre) + self.rng(organ + " place").normal(0, 1, 3).clip(-2, 2) * sigma_mm
        )
        return moved

    def stretch(self, organ: str, semi: Sequence[float], sigma: float = 0.06) -> npt.NDArray[np.float64]:
        """The semi-axes (mm) of this patient's organ, whose usual ones are `semi`."""
        factors = 1 + self.rng(organ + " size").normal(0, 1, 3).clip(-2, 2) * sigma
        stretched: npt.NDArray[np.float64] = np.asarray(semi) * factors
        return stretched

    def ripples(self, organ: str, amplitude_mm: float, wavelength_mm: tuple[float, float]) -> tuple[Wave, ...]:
        """Three waves that make an organ's surface uneven."""
        rng = self.rng(organ + " surface")
        return tuple(Wave.draw(rng, amplitude_mm, wavelength_mm) for _ in range(3))


def draw_patient(seed: int) -> Patient:
    """Draw the patient of a seed."""
    rng = np.random.default_rng([seed, 0])
    phase = int(rng.choice(len(PHASES), p=PHASE_SHARE))
    spread = {name: rng.uniform(-1, 1) * HU_SPREAD.get(name, 3.0) for name in HU_BY_PHASE}
    return Patient(
        seed=seed,
        phase=PHASES[phase],
        hu={name: by_phase[phase] + spread[name] for name, by_phase in HU_BY_PHASE.items()},
        fat_mm=float(rng.triangular(7, 14, 32)),
        oral_contrast=bool(rng.random() < 0.35),
        noise_hu=float(rng.uniform(11, 21)),
        pose=_draw_pose(rng),
    )


def _draw_pose(rng: np.random.Generator) -> Pose:
    lean_x, lean_y, roll = rng.normal(0, 1, 3).clip(-2, 2) * (1.5, 1.5, 2.5)
    girth, depth, height = rng.uniform((0.95, 0.98, 0.94), (1.09, 1.16, 1.06))
    return Pose(
        rotation=rotation_matrix(lean_x, lean_y, roll).T,
        shift=rng.uniform((-8, -8, -8), (8, 8, 8)),
        scale=np.array([girth, depth, height]),
        bends=tuple(tuple(Wave.draw(rng, 3.0, (130, 320)) for _ in range(3)) for _ in range(3)),
    )


def interpolate_heights(values: dict[float, float], heights: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Interpolate a quantity (mm), given at some heights (mm), to all `heights`."""
    interpolated: npt.NDArray[np.float32] = np.interp(heights, list(values), list(values.values())).astype(np.float32)
    return interpolated
