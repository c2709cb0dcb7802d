"""Cache of a frozen encoder's maps of a store's slices."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from frugalseg.errors import DiskError, RunError, disk_errors


class Features:
    """Maps by row of the store, computed at first use and cached in a temporary file, deleted with the process.

    In float16, a slice of SAM or LiteMedSAM takes 2 MiB; the system's page cache holds recently read ones. Slices are
    encoded one by one, so that a map does not depend on the other slices of a batch.

    Args:
        encode: a row → its maps (C, h, w).
        rows: number of rows of the store.
        folder: of the file.
    """

    def __init__(self, encode: Callable[[int], Tensor], rows: int, folder: Path) -> None:
        self.encode = encode
        self.folder = folder
        self.is_cached = np.zeros(rows, dtype=bool)
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed with this object
        self._shape: torch.Size | None = None

    def __call__(self, rows: Tensor) -> Tensor:
        """The maps of rows (B,): (B, C, h, w) float32 on the CPU.

        Raises:
            DiskError: the disk is full.
            RunError: maps are not finite in float16.
        """
        maps = [self._read_or_encode(int(row)) for row in rows]
        return torch.stack([each.float() for each in maps])  # autocast does not accept float16 on a CPU

    def _read_or_encode(self, row: int) -> Tensor:
        if not self.is_cached[row]:
            maps = self.encode(row).detach().to("cpu", torch.float16).contiguous()
            if not bool(torch.isfinite(maps).all()):
                raise RunError("the base model's maps hold values outside the range of float16", "use --adapt lora")
            self._shape = maps.shape
            content = maps.numpy().tobytes()
            with disk_errors(self.folder):
                # Not memory-mapped, since a full disk would then crash the process.
                written = os.pwrite(self._file.fileno(), content, row * len(content))
            if written != len(content):
                raise DiskError(
                    f"no space left while writing in {self.folder} ({written} of {len(content)} bytes were written)",
                    "free some space or choose another --out, then run the same command again",
                )
            self.is_cached[row] = True
            return maps
        assert self._shape is not None
        length = 2 * self._shape.numel()
        content = os.pread(self._file.fileno(), length, row * length)
        return torch.frombuffer(bytearray(content), dtype=torch.float16).reshape(self._shape)
