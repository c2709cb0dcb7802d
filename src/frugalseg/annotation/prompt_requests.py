"""What the server sends to the process of the promptable model, and gets back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class OpenScan:
    """A scan that the process may open.

    Attributes:
        case: case id.
        path: the scan.
        kept: where `map_volume` keeps it.
    """

    case: str
    path: Path
    kept: Path


@dataclass(frozen=True)
class PromptRequest:
    """A prompt on one slice, in its pixels.

    Attributes:
        box: first column, first row, and the columns and rows after the last; or None.
        points: column, row, and 1 for the object or 0 for the background.
        previous: whether to start from the model's last mask of this slice.
    """

    scan: OpenScan
    slice: int
    box: tuple[float, float, float, float] | None
    points: tuple[tuple[float, float, int], ...]
    previous: bool


@dataclass(frozen=True)
class Focus:
    """The slice on screen: it is embedded next, then those around it."""

    scan: OpenScan
    slice: int


@dataclass(frozen=True)
class PromptAnswer:
    """The mask of a prompt, (rows, columns) of 0 and 1, and the IoU that the model expects; or what went wrong."""

    mask: npt.NDArray[np.uint8] | None = None
    score: float = 0.0
    message: str = ""
    hint: str = ""
