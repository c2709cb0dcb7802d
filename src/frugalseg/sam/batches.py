"""Work in batches that get smaller where the memory does not hold them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

from frugalseg.engine.progress import say
from frugalseg.errors import DeviceError

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
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not _out_of_memory(error):
                    raise
                self.halve(len(batch), error)
                continue
            start += len(batch)
            yield result

    def halve(self, tried: int, error: BaseException) -> None:
        """Go on with half of what did not fit; raises `DeviceError` where that was one."""
        if tried == 1:
            raise DeviceError(
                f"the memory does not hold one of the {self.what} ({str(error).splitlines()[0]})",
                "use --device cpu or a smaller model, or end what else uses the memory",
            ) from error
        self.size = tried // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        say(f"out of memory with {tried} {self.what} at once; going on with {self.size}")


def _out_of_memory(error: BaseException) -> bool:
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error)  # PyTorch has no class of its own for a full main memory
    return "can't allocate memory" in text or "not enough memory" in text
