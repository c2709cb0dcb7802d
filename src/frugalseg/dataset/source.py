"""Batches of slices on the device: resident if the store fits into memory, otherwise streamed from disk."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from frugalseg.dataset.blank import find_blank
from frugalseg.dataset.store import SliceStore
from frugalseg.engine.host_memory import free_host_memory

RESIDENT_SHARE = 0.5
"""A store is kept in memory if it takes at most this fraction of the free memory."""
WITH_NEIGHBOURS = {"images", "features"}
"""Arrays of which the neighbours of a slice are read too."""


@dataclass(frozen=True)
class Slices:
    """A batch on the device.

    Attributes:
        images: (B, 2·context + 1, S, S) float32 in [0, 1]: a slice between its neighbours, in order of z.
        labels: (B, S, S) uint8 classes, or None if not requested.
        weights: (B, S, S) float32 in [0, 1], confidence in the class of each pixel; None for 1.
        superpixels: (B, S, S) int16, or None if not requested.
        unknown: (B, C) bool, the classes about which the labels of a slice say nothing: their pixels are background
            there; None for no class.
        features: (B, (2·context + 1)·F, h, w) float32, F features of a frozen encoder at each place of a slice and of
            its neighbours, in order of z; None where the network takes the images alone.
    """

    images: Tensor
    labels: Tensor | None
    weights: Tensor | None = None
    superpixels: Tensor | None = None
    unknown: Tensor | None = None
    features: Tensor | None = None

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """What a network is called with: the images, and the features where there are any."""
        return (self.images,) if self.features is None else (self.images, self.features)

    @property
    def blank(self) -> Tensor:
        """(B,) bool: see `find_blank`."""
        return find_blank(self.images[:, self.images.shape[1] // 2])


class RowArray(Protocol):
    """An array whose first axis is the rows of a store: memory-mapped, or read from elsewhere."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Its data type."""

    def __getitem__(self, rows: npt.NDArray[np.int64], /) -> npt.NDArray[Any]:
        """The content of these rows, in this order."""


class JoinedRows:
    """The rows of one array, and behind them those of another of the same type."""

    def __init__(self, first: RowArray, second: RowArray) -> None:
        self.first, self.second = first, second
        self.shape = (first.shape[0] + second.shape[0], *first.shape[1:])
        self.dtype = first.dtype

    def __getitem__(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """See `RowArray`."""
        behind = rows >= self.first.shape[0]
        found = np.empty((len(rows), *self.shape[1:]), self.dtype)
        found[~behind] = self.first[rows[~behind]]
        found[behind] = self.second[rows[behind] - self.first.shape[0]]
        return found


@dataclass(frozen=True)
class SliceCopies:
    """Changed copies of slices, each with its neighbours in order of z; M copies have M · (2·context + 1) rows.

    In a source with copies these rows are behind those of the store.

    Attributes:
        images: (rows, S, S) float16.
        labels: (rows, S, S) uint8, for neighbours those of their slice.
        context: neighbours on each side.
    """

    images: npt.NDArray[np.float16]
    labels: npt.NDArray[np.uint8]
    context: int

    def positions(self, first: int) -> npt.NDArray[np.int64]:
        """(M,) the rows of the copies without their neighbours, where the first row is `first`."""
        return np.arange(first + self.context, first + len(self.images), 2 * self.context + 1)

    def neighbour_rows(self, first: int) -> npt.NDArray[np.int64]:
        """(rows, 2·context + 1) as `SliceStore.neighbour_rows`; of a copy, the rows of its own neighbours."""
        width = 2 * self.context + 1
        whole = np.arange(first, first + len(self.images)).reshape(-1, width)
        return np.repeat(whole, width, axis=0)


class SliceSource:
    """Gathers batches of a store on a device.

    If the slices fit, they are copied to the device once (float16 and uint8) and batches are gathered there. Otherwise
    a thread reads the next batch from the memory-mapped files, into pinned memory for a GPU, while the current batch
    is used. Both give the same batches.

    Args:
        store: the slice store.
        device: device of the batches.
        with_labels: whether batches include labels.
        with_superpixels: whether batches include superpixels.
        resident: whether to keep the slices in memory; None decides by the free memory.
        rows: all rows that will be requested, in any order; None for the whole store. Others are not loaded, so that
            a few slices of a large store may fit into memory.
        context: number of neighbours on each side of a slice, as further channels of its image.
        features: features of every slice, (N, F, h, w) float16, and behind them those of the copies; None for none.
        copies: changed copies of slices, with `context` neighbours; None for none.
    """

    def __init__(
        self,
        store: SliceStore,
        device: torch.device,
        with_labels: bool,
        resident: bool | None = None,
        rows: npt.NDArray[np.int64] | None = None,
        context: int = 0,
        with_superpixels: bool = False,
        features: RowArray | None = None,
        copies: SliceCopies | None = None,
    ) -> None:
        self.device = device
        stored = len(store.images)
        around = store.neighbour_rows(context)
        if copies is not None:
            around = np.concatenate([around, copies.neighbour_rows(stored)])
        self._around = torch.from_numpy(around)
        self._arrays: dict[str, RowArray] = {"images": store.images}
        if with_labels:
            self._arrays["labels"] = store.labels
        if with_superpixels:
            # PyTorch has little support for uint16; a slice has far fewer than 2¹⁵ superpixels.
            self._arrays["superpixels"] = store.superpixels.view(np.int16)
        kept = None if rows is None else np.unique(around[rows])
        # No training on a replaced array.
        store.check_content(self._arrays, None if kept is None else kept[kept < stored])
        if copies is not None:
            self._arrays |= {name: JoinedRows(self._arrays[name], getattr(copies, name)) for name in self._arrays}
        if features is not None:
            self._arrays["features"] = features
        count = len(around) if kept is None else len(kept)
        self._positions = None if kept is None else _map_positions(kept, len(around))
        need = sum(array.dtype.itemsize * math.prod(array.shape[1:]) for array in self._arrays.values()) * count
        self.resident = need <= RESIDENT_SHARE * free_memory(device) if resident is None else resident
        if self.resident:
            loaded = [array[np.arange(count) if kept is None else kept] for array in self._arrays.values()]
            self._held = [torch.from_numpy(array).to(device) for array in loaded]

    @property
    def has_features(self) -> bool:
        """Whether batches include features."""
        return "features" in self._arrays

    def gather(self, rows: Tensor) -> Slices:
        """The slices at these rows of the store, in this order.

        Args:
            rows: (B,) int64, on the CPU.

        Raises:
            IndexError: a row is not among the `rows` of the source.
        """
        if self.resident:
            places = self._send(self._pin([self._find_positions(wanted) for wanted in self._rows_to_read(rows)]))
            return self._assemble_batch([held.index_select(0, at) for held, at in zip(self._held, places, strict=True)])
        return self._assemble_batch(self._send(self._read_batch(rows)))

    def stream(self, batches: Sequence[Tensor]) -> Iterator[Slices]:
        """Gather the batches in order; if they are read from disk, one batch ahead."""
        if self.resident:
            yield from map(self.gather, batches)
            return
        with ThreadPoolExecutor(1) as reader:
            ahead: deque[Future[list[Tensor]]] = deque()
            for rows in batches:
                ahead.append(reader.submit(self._read_batch, rows))
                if len(ahead) > 1:
                    yield self._assemble_batch(self._send(ahead.popleft().result()))
            while ahead:
                yield self._assemble_batch(self._send(ahead.popleft().result()))

    def _rows_to_read(self, rows: Tensor) -> list[Tensor]:
        """The rows to read from each array; for images and features, with the neighbours."""
        around = self._around.index_select(0, rows).flatten()
        return [around if name in WITH_NEIGHBOURS else rows for name in self._arrays]

    def _find_positions(self, rows: Tensor) -> Tensor:
        """Positions of the rows among those kept in memory."""
        if self._positions is None:
            return rows
        places = self._positions.index_select(0, rows)
        if (places < 0).any():
            unexpected = int(rows[places < 0][0])
            raise IndexError(f"row {unexpected} is not among the rows that the source was created for")
        return places

    def _read_batch(self, rows: Tensor) -> list[Tensor]:
        self._find_positions(rows)  # so that an unexpected row is an error when streaming, too
        return self._pin(
            [
                torch.from_numpy(np.ascontiguousarray(array[wanted.numpy()]))
                for array, wanted in zip(self._arrays.values(), self._rows_to_read(rows), strict=True)
            ]
        )

    def _pin(self, tensors: list[Tensor]) -> list[Tensor]:
        """The tensors in pinned memory for a GPU, so that copying them does not wait for queued work."""
        return [tensor.pin_memory() for tensor in tensors] if self.device.type == "cuda" else tensors

    def _send(self, tensors: list[Tensor]) -> list[Tensor]:
        return [tensor.to(self.device, non_blocking=self.device.type == "cuda") for tensor in tensors]

    def _assemble_batch(self, tensors: list[Tensor]) -> Slices:
        found = dict(zip(self._arrays, tensors, strict=True))
        images = found.pop("images").float()
        channels = images.reshape(-1, self._around.shape[1], *images.shape[1:])
        if "features" in found:
            maps = found["features"].float()
            found["features"] = maps.reshape(len(channels), -1, *maps.shape[2:])
        return Slices(channels, found.pop("labels", None), **found)


def _map_positions(kept: npt.NDArray[np.int64], rows: int) -> Tensor:
    """(rows,) row of the store → its position among those kept, or −1."""
    places = torch.full((rows,), -1)
    places[torch.from_numpy(kept)] = torch.arange(len(kept))
    return places


def free_memory(device: torch.device) -> int:
    """Free bytes of the GPU, or of the main memory for a CPU."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        return max(0, torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    return free_host_memory()


def shuffled_batches(rows: npt.NDArray[np.int64], batch_size: int, seed: int, epoch: int) -> list[Tensor]:
    """All rows in random order, divided into full batches; a function of (seed, epoch).

    Args:
        rows: (N,) or (N, k) rows of a store; the first axis is shuffled.
        batch_size: samples per batch. If there are fewer, they are repeated to fill one batch, as evenly as possible;
            samples of an incomplete last batch are skipped in this epoch.
        seed: the run's seed.
        epoch: number of the epoch.
    """
    rng = np.random.default_rng([seed, epoch, 2])
    order = rng.permutation(len(rows))
    if len(order) < batch_size:
        order = np.resize(order, batch_size)
    whole = len(order) - len(order) % batch_size
    return [torch.from_numpy(rows[chunk]) for chunk in order[:whole].reshape(-1, batch_size)]
