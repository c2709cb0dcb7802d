"""A frozen encoder's maps of a store's slices, each computed once."""

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
    """Maps by row of the store, computed at first use and kept in a file that vanishes with the process.

    Kept in float16, a slice of SAM or LiteMedSAM takes 2 MiB; what was read lately stays in the system's memory.
    Slices are encoded one by one: what a map is does not depend on which others were asked for.

    Args:
        encode: a row → its maps (C, h, w).
        rows: how many rows the store has.
        folder: where the file lies.
    """

    def __init__(self, encode: Callable[[int], Tensor], rows: int, folder: Path) -> None:
        self.encode = encode
        self.folder = folder
        self.is_cached = np.zeros(rows, dtype=bool)
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - it lives as long as this
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
                raise RunError("the base model's maps hold values that 16 bits do not", "use --adapt lora")
            self._shape = maps.shape
            content = maps.numpy().tobytes()
            with disk_errors(self.folder):
                # Plain writes: with a mapped file a full disk would be a crash.
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
