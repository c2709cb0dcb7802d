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

from frugalseg.dataset.copies import AugmentedCopies, describe_changes
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
        copies: changed copies of slices, whose rows are behind those of the store; None for none.

    Attributes:
        shape, dtype: of the array.
    """

    def __init__(
        self, store: SliceStore, encoder: FrozenEncoder, folder: Path, copies: AugmentedCopies | None = None
    ) -> None:
        self.store, self.encoder, self.folder, self.copies = store, encoder, folder, copies
        self.shape = (len(store.slices) + (0 if copies is None else len(copies.origins)), *encoder.shape)
        self.dtype: np.dtype[Any] = np.dtype(np.float16)
        self._case = store.slices["case"].to_numpy(str)
        self._z = store.slices["z"].to_numpy(np.int64)
        self._open_cache = cache(lambda case, change: EmbeddingCache(folder, self._make_signature(case, change)))
        self._hash_of = cache(self._hash_scan)

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
        cached, z = self._find_place(row)
        return cached.has(z)

    def _read_or_encode(self, row: int) -> npt.NDArray[Any]:
        cached, z = self._find_place(row)
        kept = cached.get(z)
        if kept is None:
            return self._encode(row)
        maps: npt.NDArray[Any] = kept[MAP][0].numpy()
        return maps

    def _encode(self, row: int) -> npt.NDArray[Any]:
        maps = self.encoder(torch.from_numpy(self._image(row).astype(np.float32))[None]).half().cpu()
        cached, z = self._find_place(row)
        cached.put(z, {MAP: maps})
        encoded: npt.NDArray[Any] = maps[0].numpy()
        return encoded

    def _image(self, row: int) -> npt.NDArray[Any]:
        stored = len(self.store.slices)
        image: npt.NDArray[Any] = (
            self.store.images[row] if row < stored or self.copies is None else self.copies.slices.images[row - stored]
        )
        return image

    def _find_place(self, row: int) -> tuple[EmbeddingCache, int]:
        """The cache of a row, and the number of its slice there."""
        change, stored = "", len(self.store.slices)
        if row >= stored and self.copies is not None:
            origin = self.copies.origins[row - stored]
            # The noise of an image depends on how many are changed with it.
            seen = f"neighbour {origin.offset} of {self.copies.slices.context}"
            change = f"copy {origin.number}, {seen}: {describe_changes(self.copies.strength)}"
            row = origin.row
        return self._open_cache(self._case[row], change), int(self._z[row])

    def _make_signature(self, case: str, change: str) -> EmbeddingSignature:
        """Everything that the features of a scan's slices, or of their changed copies, depend on."""
        model = self.encoder.model
        return EmbeddingSignature(
            image=f"{self._hash_of(case)} {change}".strip(),
            shown={"0": 0.0, "1": 1.0},
            model=model.signature,
            recipe=json.loads(json.dumps(asdict(model.recipe))),
        )

    def _hash_scan(self, case: str) -> str:
        """Hash of a scan's voxels and of its slices as they are stored, so of their window and size too."""
        scan = next(scan for scan in self.store.record.scans if scan.case == case)
        rows = np.flatnonzero(self._case == case)
        stored = hash_slices(self.store.images[rows[0] : rows[-1] + 1], "images")
        return f"{scan.fingerprint} {stored}"
