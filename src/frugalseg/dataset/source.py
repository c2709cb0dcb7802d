"""Slices on the device, by row: resident where the store fits in memory, streamed from disk where it does not."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from frugalseg.dataset.store import SliceStore

RESIDENT_SHARE = 0.5
"""A store lives in memory when it takes at most this share of what is free."""


@dataclass(frozen=True)
class Slices:
    """A batch on the device.

    Attributes:
        images: (B, 1, S, S) float32 in [0, 1].
        labels: (B, S, S) uint8 classes, or None where they were not asked for.
        weights: (B, S, S) float32 in [0, 1], how far each pixel's class may be trusted; None for fully.
    """

    images: Tensor
    labels: Tensor | None
    weights: Tensor | None = None


class SliceSource:
    """Gathers batches of a store on a device.

    A resident store is copied to the device once (float16 and uint8) and batches are gathered there. Otherwise a
    thread reads the next batch from the memory-mapped files, into pinned memory for a GPU, while the current
    one is being learned from. Both give the same batches.

    Args:
        store: the slice store.
        device: where batches are wanted.
        with_labels: whether batches carry labels.
        resident: whether to keep the store in memory; None decides by the free memory.
    """

    def __init__(
        self, store: SliceStore, device: torch.device, with_labels: bool, resident: bool | None = None
    ) -> None:
        self.device = device
        self._arrays: list[npt.NDArray[np.float16] | npt.NDArray[np.uint8]] = [store.images]
        if with_labels:
            self._arrays.append(store.labels)
        need = sum(array.nbytes for array in self._arrays)
        self.resident = need <= RESIDENT_SHARE * free_memory(device) if resident is None else resident
        if self.resident:
            self._held = [torch.from_numpy(np.array(array)).to(device) for array in self._arrays]

    def gather(self, rows: Tensor) -> Slices:
        """The slices at these rows, in this order."""
        if self.resident:
            on_device = rows.to(self.device)
            return self._finish([held.index_select(0, on_device) for held in self._held])
        return self._finish(self._send(self._read(rows)))

    def stream(self, batches: Sequence[Tensor]) -> Iterator[Slices]:
        """Gather one batch after the other, reading one ahead where they come from disk."""
        if self.resident:
            yield from map(self.gather, batches)
            return
        with ThreadPoolExecutor(1) as reader:
            ahead: deque[Future[list[Tensor]]] = deque()
            for rows in batches:
                ahead.append(reader.submit(self._read, rows))
                if len(ahead) > 1:
                    yield self._finish(self._send(ahead.popleft().result()))
            while ahead:
                yield self._finish(self._send(ahead.popleft().result()))

    def _read(self, rows: Tensor) -> list[Tensor]:
        picked = [torch.from_numpy(np.ascontiguousarray(array[rows.numpy()])) for array in self._arrays]
        return [tensor.pin_memory() for tensor in picked] if self.device.type == "cuda" else picked

    def _send(self, tensors: list[Tensor]) -> list[Tensor]:
        return [tensor.to(self.device, non_blocking=True) for tensor in tensors]

    @staticmethod
    def _finish(tensors: list[Tensor]) -> Slices:
        images, *labels = tensors
        return Slices(images.float().unsqueeze(1), labels[0] if labels else None)


def free_memory(device: torch.device) -> int:
    """Bytes free on the device: of the GPU, or of the machine."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):  # not Linux: assume a small laptop's half
        return 4 << 30


def shuffled_batches(rows: npt.NDArray[np.int64], batch_size: int, seed: int, epoch: int) -> list[Tensor]:
    """All rows in random order, cut into whole batches; a function of (seed, epoch).

    Args:
        rows: (N,) or (N, k) rows of a store; the first axis is shuffled.
        batch_size: samples a batch. Where there are fewer, each is repeated equally often (once more for some)
            to fill one batch; where the last batch would be smaller, its samples wait for another epoch.
        seed: the run's seed.
        epoch: number of the epoch.
    """
    rng = np.random.default_rng([seed, epoch, 2])
    order = rng.permutation(len(rows))
    if len(order) < batch_size:
        order = np.resize(order, batch_size)
    whole = len(order) - len(order) % batch_size
    return [torch.from_numpy(rows[chunk]) for chunk in order[:whole].reshape(-1, batch_size)]
