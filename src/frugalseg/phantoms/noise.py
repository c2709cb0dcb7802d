"""Noise as in CT by filtered back-projection, independent for each slice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import fft

from frugalseg.imaging.volume import Array

CUTOFF_PER_MM = 0.28
"""Cut-off frequency of a soft abdominal kernel, cycles per mm."""

STREAKINESS = 0.6
"""Excess of noise along the long axis of the cross-section, where rays are attenuated most; 0 is none."""


def noise_spectrum(shape: Sequence[int], spacing: Sequence[float]) -> Array:
    """Amplitude of the noise at each in-plane frequency (of `rfft2`): an apodised ramp, stronger across the body.

    Args:
        shape: voxels along left and posterior.
        spacing: mm along left and posterior.
    """
    fx = np.abs(fft.fftfreq(shape[0], spacing[0]))[:, None]
    fy = fft.rfftfreq(shape[1], spacing[1])
    f = np.hypot(fx, fy)
    # Coarse voxels average fine noise, so that the cut-off is limited by the voxel size.
    cutoff = min(CUTOFF_PER_MM, 0.28 / max(spacing[:2]))
    spectrum = np.sqrt(f + 0.08 * cutoff) * np.exp(-np.square(f / cutoff))
    across = fy / (f + 1e-9)
    spectrum *= 1 + STREAKINESS * (np.square(across) ** 4 - 0.2)
    spectrum[0, 0] = 0
    result: Array = spectrum.astype(np.float32)
    return result


def correlated_noise(rng: np.random.Generator, shape: tuple[int, int, int], spacing: Sequence[float]) -> Array:
    """Noise of standard deviation 1 for a stack (left, posterior, slices), independent from slice to slice."""
    nx, ny, slices = shape
    white = fft.rfft2(rng.standard_normal((slices, nx, ny), np.float32), axes=(1, 2))
    grain = fft.irfft2(white * noise_spectrum((nx, ny), spacing), s=(nx, ny), axes=(1, 2))
    grain /= grain.std() or 1.0  # a grid of one pixel has no noise of this spectrum
    stack: Array = grain.transpose(1, 2, 0)
    return stack


def photon_loss(axes: Sequence[Array], centre: Sequence[float] | Array) -> Array:
    """Relative noise level over a slice: 1 in the centre of the body, lower where rays cross less tissue."""
    r2 = np.square((axes[0] - centre[0]) / 150)[:, None] + np.square((axes[1] - centre[1]) / 115)
    level: Array = (0.45 + 0.55 * np.exp(-r2)).astype(np.float32)
    return level
