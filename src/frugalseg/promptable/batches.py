"""Work in batches that get smaller where the memory does not hold them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

from frugalseg.engine.memory import out_of_memory
from frugalseg.engine.progress import say
from frugalseg.errors import DeviceError

SLICES_PER_BATCH = {"cpu": 4, "cuda": 16}
"""To begin with; so are boxes."""
BOXES_PER_BATCH = {"cpu": 16, "cuda": 64}

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batches:
    """A batch size that is halved, for good, when the memory overflows.

    Args:
        size: how many at once to begin with.
        what: they are called in messages: "slices", "boxes".
    """

    def __init__(self, size: int, what: str) -> None:
        self.size = size
        self.what = what

    def run(self, work: Callable[[Sequence[Item]], Result], items: Sequence[Item]) -> Iterator[Result]:
        """`work` on all items, in order, in batches.

        Raises:
            DeviceError: the memory does not even hold one.
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
        """Go on with half of what did not fit.

        Raises:
            DeviceError: that was one already.
            Exception: `error` itself, where it tells of anything but too little memory.
        """
        if not out_of_memory(error):
            raise error
        if tried == 1:
            said = (str(error) or type(error).__name__).splitlines()[0]
            raise DeviceError(
                f"memory is too small for one of the {self.what} ({said})",
                "use --device cpu or a smaller model, or end what else uses the memory",
            ) from error
        self.size = tried // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        say(f"out of memory with {tried} {self.what} at once; going on with {self.size}")
