"""Features of slices, computed once and cached on disk.

<folder>/<hash>/signature.json       the encoder that the features depend on
<folder>/<hash>/<slice>.safetensors  the map of one slice, in float16

A slice is known by its content. So stores, copies and scans that show the same slice share its map, and a slice of
another window or size has another.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from frugalseg.dataset.source import RowArray
from frugalseg.engine.progress import progress, say
from frugalseg.errors import DiskError, disk_errors
from frugalseg.features.encoder import FrozenEncoder
from frugalseg.text import pluralize

GIGABYTE = 10**9


class SliceFeatures:
    """The features of the slices of an array, (N, C, h, w) float16; computed at first use, then read from the cache.

    Args:
        images: (N, S, S) slices in [0, 1].
        encoder: computes the features.
        folder: of the cache.

    Attributes:
        shape, dtype: of the array.

    Raises:
        StoreError: the folder is a file, or holds features of another encoder under this one's name.
        DiskError: it cannot be written.
    """

    def __init__(self, images: RowArray, encoder: FrozenEncoder, folder: Path) -> None:
        self.images, self.folder, self.encoder = images, folder, encoder.with_cache(folder)
        self.shape = (images.shape[0], *encoder.shape)
        self.dtype: np.dtype[Any] = np.dtype(np.float16)

    def __getitem__(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """The features of these rows, in this order: (M, C, h, w) float16.

        Raises:
            StoreError: the cache holds features of another encoder.
            DiskError: the disk is full.
        """
        found: npt.NDArray[Any] = self.encoder(self._read(rows)).half().cpu().numpy()
        return found

    def fill(self, rows: npt.NDArray[np.int64]) -> None:
        """Encode those of these slices that are not cached.

        Raises:
            DiskError: the disk has no room for them; checked before the first one is encoded.
            StoreError: the cache holds features of another encoder.
        """
        missing = [row for row in np.unique(rows) if not self.encoder.is_cached(self._read(row[None])[0])]
        if not missing:
            return
        need = len(missing) * self.dtype.itemsize * int(np.prod(self.shape[1:]))
        self._check_space(need, len(missing))
        side, own = self.encoder.model.recipe.size, self.images.shape[-1]
        resampled = "" if side == own else f", resampled from {own}×{own} to its {side}×{side} pixels"
        say(
            f"computing features of {pluralize(len(missing), 'slice')} with {self.encoder.model.name}{resampled}: "
            f"{need / GIGABYTE:.2g} GB in {self.folder}"
        )
        with progress("features", len(missing), "slices") as bar:
            for start in range(0, len(missing), self.encoder.at_once):
                batch = np.array(missing[start : start + self.encoder.at_once])
                self.encoder(self._read(batch))
                bar.advance(len(batch))

    def _read(self, rows: npt.NDArray[np.int64]) -> torch.Tensor:
        return torch.from_numpy(self.images[rows].astype(np.float32))

    def _check_space(self, need: int, slices: int) -> None:
        with disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self.folder).free
        if need > free:
            raise DiskError(
                f"the features of {pluralize(slices, 'slice')} take {need / GIGABYTE:.1f} GB in {self.folder}, where "
                f"{free / GIGABYTE:.1f} GB are free",
                "free some space, give another folder by --cache, or use fewer scans",
            )
