"""An MR series whose corners lie outside the field of view, and what a network is shown of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from frugalseg.imaging.intensity import IntensityScale
from tests.imaging.scans import write_slice

OUTSIDE = -32768


def write_padded_mr(folder: Path, shape: tuple[int, int, int] = (6, 32, 32)) -> Path:
    """A DICOM series of (slices, rows, columns) with values of 5…456 within, and `OUTSIDE` around a circle."""
    rng = np.random.default_rng(0)
    rows, columns = np.indices(shape[1:]) - (shape[1] - 1) / 2
    outside = np.hypot(rows, columns) > shape[1] / 2
    for z in range(shape[0]):
        pixels = rng.integers(5, 457, shape[1:]).astype(np.int16)
        pixels[outside] = OUTSIDE
        tags: dict[str, Any] = {"Modality": "MR", "PixelPaddingValue": OUTSIDE}
        write_slice(folder / f"{z}.dcm", pixels, (0, 0, 5 * z), spacing=(4, 4), **tags)
    return folder


def check_shown(shown: npt.NDArray[Any]) -> None:
    """`shown` (…, H, W) in [0, 1] is dark in the corners, and has all its contrast within."""
    inner = shown[..., 8:24, 8:24]
    assert (shown[..., :3, :3] == 0).all()
    assert 0.4 < inner.mean() < 0.6
    assert inner.std() > 0.2


def record_shown(monkeypatch: pytest.MonkeyPatch) -> list[npt.NDArray[np.float32]]:
    """Every result of `IntensityScale.apply` from now on."""
    seen: list[npt.NDArray[np.float32]] = []
    apply = IntensityScale.apply

    def recording(self: IntensityScale, *args: Any) -> npt.NDArray[np.float32]:
        seen.append(apply(self, *args))
        return seen[-1]

    monkeypatch.setattr(IntensityScale, "apply", recording)
    return seen
