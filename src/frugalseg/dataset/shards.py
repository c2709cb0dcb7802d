"""The arrays of a slice store, each in one file or, in a large store, in several: shards.

A shard has the slices of whole scans, so that files stay small enough to be copied, copied again after an interruption,
and kept on file systems that limit their size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from frugalseg.engine.files import write_joined

SHARD_BYTES = 8 << 30
"""Images of a store that takes more are divided into shards of about this size."""

Array: TypeAlias = npt.NDArray[Any]


class ShardedArray:
    """Arrays one behind the other along the first axis, indexed as one.

    Args:
        shards: of one type, and of one shape but for the first axis.
    """

    def __init__(self, shards: Sequence[Array]) -> None:
        self._shards = list(shards)
        self._begins = np.cumsum([0, *(len(shard) for shard in shards)])
        self.shape: tuple[int, ...] = (int(self._begins[-1]), *shards[0].shape[1:])
        self.dtype: np.dtype[Any] = shards[0].dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: int | slice | npt.NDArray[np.integer[Any]]) -> Array:
        """The content of a row, of consecutive rows, or of these rows in this order."""
        if isinstance(rows, (int, np.integer)):
            found: Array = self[np.array([rows])][0]
            return found
        wanted = np.arange(len(self))[rows] if isinstance(rows, slice) else np.asarray(rows)
        if wanted.size and not (-len(self) <= wanted.min() and wanted.max() < len(self)):
            raise IndexError(f"a row of {wanted.min()}…{wanted.max()} is not among {len(self)} rows")
        wanted = np.where(wanted < 0, wanted + len(self), wanted)
        shard = np.searchsorted(self._begins, wanted, side="right") - 1
        found = np.empty((*wanted.shape, *self.shape[1:]), self.dtype)
        for number in np.unique(shard):
            here = shard == number
            found[here] = self._shards[number][wanted[here] - self._begins[number]]
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.concatenate(self._shards).astype(dtype or self.dtype, copy=False)

    def view(self, dtype: Any) -> ShardedArray:
        """The same bytes as another type of the same size."""
        return ShardedArray([shard.view(dtype) for shard in self._shards])


StoredArray: TypeAlias = Array | ShardedArray
"""An array of a store, memory-mapped read-only."""


@dataclass(frozen=True)
class ShardFile:
    """One file of an array: its path, and the rows of the store that it has."""

    path: Path
    rows: range


def plan_shards(slices: Iterable[int], slice_bytes: int) -> tuple[int, ...]:
    """Slices of each shard, or none where one file is small enough.

    Args:
        slices: of each scan.
        slice_bytes: of the image of one slice.
    """
    shards = [0]
    for count in slices:
        if shards[-1] and (shards[-1] + count) * slice_bytes > SHARD_BYTES:
            shards.append(0)
        shards[-1] += count
    return tuple(shards) if len(shards) > 1 else ()


def list_files(folder: Path, array: str, slices: int, shards: Sequence[int]) -> list[ShardFile]:
    """The files of an array, in order.

    Args:
        folder: of the store.
        array: name of the array.
        slices: of the whole store.
        shards: slices of each shard; empty for a single file.
    """
    if not shards:
        return [ShardFile(folder / f"{array}.npy", range(slices))]
    bounds = pairwise(np.cumsum([0, *shards]).tolist())
    return [ShardFile(folder / f"{array}-{i:04d}.npy", range(*rows)) for i, rows in enumerate(bounds)]


def write_shards(
    files: Sequence[ShardFile], dtype: np.dtype[Any], size: int, parts: Iterable[tuple[int, Path]]
) -> None:
    """Write the files of an array by joining the parts of the scans.

    Args:
        files: of the array.
        dtype: of the array.
        size: side of the slices.
        parts: slices, and file, of each scan, in order.
    """
    remaining = iter(parts)
    for file in files:
        write_joined(file.path, dtype, (len(file.rows), size, size), _take_parts(remaining, len(file.rows)))


def _take_parts(parts: Iterator[tuple[int, Path]], slices: int) -> Iterator[Path]:
    """The files of the next scans with so many slices."""
    while slices > 0:
        count, path = next(parts)
        slices -= count
        yield path
