"""What an engine believes of one slice it has reached, as it is kept on disk until a scan is finished."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from frugalseg.engine.files import atomic_write
from frugalseg.errors import RunError

Beliefs = npt.NDArray[np.float32]
Figures = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

LIMIT = 4.0
"""Beliefs lie in ±4."""
STEPS = 31
"""Steps a unit in which they are kept, one byte each."""


@dataclass(frozen=True, eq=False)
class SliceState:
    """K objects in one slice.

    Attributes:
        z: the slice.
        beliefs: (K, H, W) in ±`LIMIT`; above 0 is object, where no other object's is higher.
        alive: (K,) whether the object is still there; its beliefs are −`LIMIT` everywhere where it is not.
        score: (K,) how good the model thinks its mask is, 0…1.
        agreement: (K,) overlap (IoU) of the model's own mask with the one that was settled on.
        change: (K,) overlap (IoU) of that with what was expected from the slice before.
    """

    z: int
    beliefs: Beliefs
    alive: Bools
    score: Figures
    agreement: Figures
    change: Figures

    @classmethod
    def given(cls, z: int, masks: Bools) -> SliceState:
        """An annotated slice, (K, H, W)."""
        sure = np.ones(len(masks))
        beliefs = np.where(masks, LIMIT, -LIMIT).astype(np.float32)
        return cls(z, beliefs, nonempty(masks), sure, sure, sure)

    @classmethod
    def nothing(cls, z: int, shape: tuple[int, ...]) -> SliceState:
        """No object in a slice; `shape` is K, H, W."""
        beliefs = np.full(shape, -LIMIT, dtype=np.float32)
        return cls(z, beliefs, np.zeros(shape[0], bool), *(np.zeros(shape[0]) for _ in range(3)))

    def masks(self) -> Bools:
        """(K, H, W), no pixel in two of them."""
        highest = self.beliefs.argmax(axis=0)
        masks: Bools = (self.beliefs > 0) & (highest == np.arange(len(self.beliefs))[:, None, None])
        return masks

    def save(self, path: Path) -> None:
        """Keep it, whole or not at all; beliefs are rounded (see `rounded`)."""
        stored = {name: getattr(self, name) for name in ("alive", "score", "agreement", "change")}
        with atomic_write(path) as file:
            np.savez_compressed(file, z=np.int64(self.z), beliefs=_bytes(self.beliefs), **stored)

    @classmethod
    def load(cls, path: Path) -> SliceState:
        """What was saved.

        Raises:
            RunError: the file is damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as stored:
                figures = [stored[name] for name in ("alive", "score", "agreement", "change")]
                return cls(int(stored["z"]), _floats(stored["beliefs"]), *figures)
        except (OSError, ValueError, TypeError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
            raise RunError(
                f"{path} is damaged ({error})",
                f"delete the folder {path.parents[1]}, and give --resume: the scan is propagated again",
            ) from error

    def rounded(self) -> SliceState:
        """As it would be after `save` and `load`: what every next step starts from, so that a resumed run is exact."""
        figures = (self.alive, self.score, self.agreement, self.change)
        return SliceState(self.z, _floats(_bytes(self.beliefs)), *figures)


def nonempty(masks: Bools) -> Bools:
    """Which of masks (K, H, W) hold a pixel: (K,)."""
    held: Bools = np.logical_or.reduce(masks.reshape(len(masks), -1), axis=1)
    return held


def _bytes(beliefs: Beliefs) -> npt.NDArray[np.int8]:
    stored: npt.NDArray[np.int8] = np.rint(beliefs.clip(-LIMIT, LIMIT) * STEPS).astype(np.int8)
    return stored


def _floats(stored: npt.NDArray[np.int8]) -> Beliefs:
    return stored.astype(np.float32) / np.float32(STEPS)
