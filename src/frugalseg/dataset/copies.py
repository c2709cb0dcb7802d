"""Randomly changed copies of slices, as further rows behind those of their store.

A network whose input is computed once, such as the features of a frozen encoder, cannot see a slice changed anew in
every step; it sees the slice and some copies of it.
"""

from __future__ import annotations

import zlib

import numpy as np
import numpy.typing as npt
import torch

from frugalseg.dataset.augment import Augment, Strength
from frugalseg.dataset.source import SliceCopies, Slices
from frugalseg.dataset.store import SliceStore


def make_copies(
    store: SliceStore, rows: npt.NDArray[np.int64], count: int, strength: Strength, context: int = 0
) -> SliceCopies:
    """`count` changed copies of each slice, one slice after another, with their labels; neighbours are changed alike.

    A copy depends on its slice, its neighbours and its number alone: trainings with other labels, seeds or numbers of
    copies share it.

    Args:
        store: the slices.
        rows: those to copy.
        count: copies of each, at least 1.
        strength: of the changes, see `dataset.augment`.
        context: neighbours on each side.
    """
    around = store.neighbour_rows(context)
    augment = Augment(strength)
    changed = []
    for row in rows.tolist():
        shown = torch.from_numpy(store.images[around[row]].astype(np.float32))[None]
        mask = torch.from_numpy(store.labels[row : row + 1].copy())
        for number in range(count):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(_seed_of(store, row, number))
                changed.append(augment(Slices(shown, mask)))
    images = torch.cat([copy.images[0] for copy in changed]).half().numpy()
    labels = torch.cat([copy.labels for copy in changed if copy.labels is not None]).numpy()
    return SliceCopies(images, np.repeat(labels, 2 * context + 1, axis=0), context)


def _seed_of(store: SliceStore, row: int, number: int) -> int:
    """A function of the slice's content: under another name, or in another store, it has the same copies."""
    entropy = [zlib.crc32(np.ascontiguousarray(store.images[row]).data), number]
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])
