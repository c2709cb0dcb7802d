"""Process items in batches, whose size is halved when memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

from frugalseg.engine.memory import is_out_of_memory
from frugalseg.engine.progress import say
from frugalseg.errors import DeviceError

SLICES_PER_BATCH = {"cpu": 4, "mps": 4, "cuda": 16}
"""Initial number of slices per batch, by device."""
BOXES_PER_BATCH = {"cpu": 16, "mps": 16, "cuda": 64}
"""Initial number of boxes per batch, by device."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batches:
    """A batch size that is halved permanently when memory runs out.

    Args:
        size: the initial batch size.
        what: the items, in messages: "slices", "boxes".
    """

    def __init__(self, size: int, what: str) -> None:
        self.size = size
        self.what = what

    def run(self, work: Callable[[Sequence[Item]], Result], items: Sequence[Item]) -> Iterator[Result]:
        """Apply `work` to all items, in order, in batches.

        Raises:
            DeviceError: memory is too small for one item.
        """
        start = 0
        while start < len(items):
            batch = items[start : start + self.size]
            try:
                result = work(batch)
            except (MemoryError, RuntimeError) as error:
                self.halve(len(batch), error)
                continue
            start += len(batch)
            yield result

    def halve(self, tried: int, error: BaseException) -> None:
        """Halve the batch size after a batch of `tried` items did not fit.

        Raises:
            DeviceError: the batch was a single item.
            Exception: `error` itself, where it is not about memory.
        """
        if not is_out_of_memory(error):
            raise error
        if tried == 1:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise DeviceError(
                f"memory is too small for one of the {self.what} ({reason})",
                "use --device cpu or a smaller model, or end other programs that use the memory",
            ) from error
        self.size = tried // 2
        if torch.accelerator.is_available():
            torch.accelerator.empty_cache()
        say(f"out of memory with {tried} {self.what} at once; continuing with {self.size}")
