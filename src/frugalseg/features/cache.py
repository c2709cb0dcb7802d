"""Features of a store's slices, computed once and cached on disk.

<folder>/<hash>/signature.json       what the features of one scan's slices depend on
<folder>/<hash>/<slice>.safetensors  the map of one slice, in float16

A scan is known by the content of its slices: stores that hold the same slices share a folder, and a slice of another
window or size has another hash.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from frugalseg.dataset.digest import hash_slices
from frugalseg.dataset.store import SliceStore
from frugalseg.engine.progress import progress, say
from frugalseg.errors import DiskError, disk_errors
from frugalseg.features.encoder import FrozenEncoder
from frugalseg.promptable.embeddings import EmbeddingCache
from frugalseg.records.signatures import EmbeddingSignature
from frugalseg.text import pluralize

GIGABYTE = 10**9
MAP = "image"
"""Name of the map in the cache's files."""


class StoreFeatures:
    """The features of every slice of a store, (N, C, h, w) float16; computed at first use, then read from the cache.

    Slices are encoded one by one, so that a map does not depend on the other slices of a batch.

    Args:
        store: the slices.
        encoder: computes the features.
        folder: of the cache.

    Attributes:
        shape, dtype: of the array.
    """

    def __init__(self, store: SliceStore, encoder: FrozenEncoder, folder: Path) -> None:
        self.store, self.encoder, self.folder = store, encoder, folder
        self.shape = (len(store.slices), *encoder.shape)
        self.dtype: np.dtype[Any] = np.dtype(np.float16)
        self._case = store.slices["case"].to_numpy(str)
        self._z = store.slices["z"].to_numpy(np.int64)
        self._cache_of = cache(self._open_cache)

    def __getitem__(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """The features of these rows, in this order: (M, C, h, w) float16.

        Raises:
            StoreError: the cache holds features of other slices, or of another encoder.
            DiskError: the disk is full.
        """
        found = np.empty((len(rows), *self.shape[1:]), self.dtype)
        for place, row in zip(found, rows.tolist(), strict=True):
            place[:] = self._read_or_encode(row)
        return found

    def fill(self, rows: npt.NDArray[np.int64]) -> None:
        """Encode those of these slices that are not cached.

        Raises:
            DiskError: the disk has no room for them; checked before the first one is encoded.
            StoreError: the cache holds features of other slices, or of another encoder.
        """
        missing = [row for row in np.unique(rows).tolist() if not self._is_cached(row)]
        if not missing:
            return
        need = len(missing) * self.dtype.itemsize * int(np.prod(self.shape[1:]))
        self._check_space(need, len(missing))
        side, own = self.encoder.model.recipe.size, self.store.size
        resampled = "" if side == own else f", resampled from {own}×{own} to its {side}×{side} pixels"
        say(
            f"computing features of {pluralize(len(missing), 'slice')} with {self.encoder.model.name}{resampled}: "
            f"{need / GIGABYTE:.2g} GB in {self.folder}"
        )
        with progress("features", len(missing), "slices") as bar:
            for row in missing:
                self._encode(row)
                bar.advance()

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

    def _is_cached(self, row: int) -> bool:
        return self._cache_of(self._case[row]).has(int(self._z[row]))

    def _read_or_encode(self, row: int) -> npt.NDArray[Any]:
        kept = self._cache_of(self._case[row]).get(int(self._z[row]))
        if kept is None:
            return self._encode(row)
        maps: npt.NDArray[Any] = kept[MAP][0].numpy()
        return maps

    def _encode(self, row: int) -> npt.NDArray[Any]:
        slices = torch.from_numpy(self.store.images[row : row + 1].astype(np.float32))
        maps = self.encoder(slices).half().cpu()
        self._cache_of(self._case[row]).put(int(self._z[row]), {MAP: maps})
        encoded: npt.NDArray[Any] = maps[0].numpy()
        return encoded

    def _open_cache(self, case: str) -> EmbeddingCache:
        return EmbeddingCache(self.folder, self._make_signature(case))

    def _make_signature(self, case: str) -> EmbeddingSignature:
        """Everything that the features of a scan's slices depend on."""
        model = self.encoder.model
        return EmbeddingSignature(
            image=self._hash_of(case),
            shown={"0": 0.0, "1": 1.0},
            model=model.signature,
            recipe=json.loads(json.dumps(asdict(model.recipe))),
        )

    def _hash_of(self, case: str) -> str:
        """Hash of a scan's voxels and of its slices as they are stored, so of their window and size too."""
        scan = next(scan for scan in self.store.record.scans if scan.case == case)
        rows = np.flatnonzero(self._case == case)
        stored = hash_slices(self.store.images[rows[0] : rows[-1] + 1], "images")
        return f"{scan.fingerprint} {stored}"
