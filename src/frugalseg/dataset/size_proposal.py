"""A proposed --size: what the smallest organ needs, as far as the scans hold more detail and the memory suffices."""

from __future__ import annotations

import math
from dataclasses import dataclass

from msgspec import UNSET

from frugalseg.dataset.small_organs import LARGEST_SIZE, SIZE_STEP, round_up, size_for, typical_pixels
from frugalseg.records.store import StoreRecord

COMFORTABLE_PIXELS = 25
"""An organ that covers fewer pixels of a slice is learned worse than larger ones; a rule of thumb."""
TRAINING_BYTES = 30_000
"""Memory of a training per pixel of a slice: ten slices in float32 through the default network, with gradients
(measured: 3.0 kB a pixel and slice, 1.5 to 1.9 kB in bf16)."""


@dataclass(frozen=True)
class SizeProposal:
    """A larger size for the organ that covers the fewest pixels.

    Attributes:
        organ: its name.
        pixels: what it covers of a typical slice, in pixels of the store.
        size: of the store.
        larger: the proposed size.
        limit: why not still larger; empty where `larger` gives the organ `COMFORTABLE_PIXELS`.
    """

    organ: str
    pixels: float
    size: int
    larger: int
    limit: str

    def describe(self) -> str:
        """The sentence that `prepare` prints."""
        factor = (self.larger / self.size) ** 2
        why = f" ({self.limit})" if self.limit else ""
        return (
            f"the smallest organ, {self.organ}, covers {self.pixels:.0f} pixels of a typical slice; prepared with "
            f"--size {self.larger} it would cover {self.pixels * factor:.0f}{why}, and a training would take "
            f"{factor:.1f} times the time and memory"
        )


def propose_size(record: StoreRecord, free_bytes: int) -> SizeProposal | None:
    """A larger size, where the smallest organ covers fewer than `COMFORTABLE_PIXELS` and a larger size is of use.

    Args:
        record: of the store.
        free_bytes: free main memory. Not that of a GPU: to ask for it takes seconds and some of it.
    """
    covered = typical_pixels(record)
    if not covered:
        return None
    organ = min(covered, key=lambda name: covered[name])
    size = record.parameters.size
    own = [scan.own_size for scan in record.scans if scan.own_size is not UNSET]
    fits = SIZE_STEP * int(math.sqrt(free_bytes / TRAINING_BYTES) / SIZE_STEP)
    limits = {
        "": size_for(COMFORTABLE_PIXELS, covered[organ], size),
        "the scans hold no more detail": round_up(max(own)) if own else LARGEST_SIZE,
        "a training on this CPU needs to fit in memory": fits,
    }
    limit = min(limits, key=lambda reason: limits[reason])
    return SizeProposal(organ, covered[organ], size, limits[limit], limit) if limits[limit] > size else None
