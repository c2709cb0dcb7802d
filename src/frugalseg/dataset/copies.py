"""Randomly changed copies of slices, as further rows behind those of their store.

A network whose input is computed once, such as the features of a frozen encoder, cannot see a slice changed anew in
every step; it sees the slice and some copies of it.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from frugalseg.dataset.augment import RECIPES, Augment, Strength
from frugalseg.dataset.source import SliceCopies, Slices
from frugalseg.dataset.store import SliceStore


@dataclass(frozen=True)
class CopyOrigin:
    """What a row of copies shows.

    Attributes:
        row: the row of the slice in the store; for a neighbour, that of the slice whose neighbour it is.
        number: of the copy, from 0.
        offset: of a neighbour in z, otherwise 0.
    """

    row: int
    number: int
    offset: int


@dataclass(frozen=True)
class AugmentedCopies:
    """Copies and what they are of.

    Attributes:
        slices: the copies.
        origins: of each row.
        strength: of the changes.
        of_rows: (N, count) rows of the copies of each of N slices, in a source of the store with these copies.
    """

    slices: SliceCopies
    origins: list[CopyOrigin]
    strength: Strength
    of_rows: npt.NDArray[np.int64]


def make_copies(
    store: SliceStore, rows: npt.NDArray[np.int64], count: int, strength: Strength, context: int = 0
) -> AugmentedCopies:
    """Changed copies of slices, with their labels; neighbours are changed like the slice.

    A copy depends on its slice and number alone: trainings with other labels, seeds or numbers of copies share it.

    Args:
        store: the slices.
        rows: those to copy.
        count: copies of each.
        strength: of the changes, see `dataset.augment`.
        context: neighbours on each side.
    """
    around = store.neighbour_rows(context)
    augment, images, labels, origins = Augment(strength), [], [], []
    for row in rows.tolist():
        shown = torch.from_numpy(store.images[around[row]].astype(np.float32))[None]
        mask = torch.from_numpy(store.labels[row : row + 1].copy())
        for number in range(count):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(_seed_of(store, row, number))
                changed = augment(Slices(shown, mask))
            assert changed.labels is not None
            images.append(changed.images[0].half().numpy())
            labels.append(np.repeat(changed.labels.numpy(), len(images[-1]), axis=0))
            origins += [CopyOrigin(row, number, offset) for offset in range(-context, context + 1)]
    side = (0, store.size, store.size)
    none = np.empty(side, np.float16), np.empty(side, np.uint8)
    slices = SliceCopies(np.concatenate([none[0], *images]), np.concatenate([none[1], *labels]), context)
    of_rows = slices.positions(len(store.slices)).reshape(len(rows), count)
    return AugmentedCopies(slices, origins, strength, of_rows)


def describe_changes(strength: Strength) -> str:
    """What the changes of a copy depend on beside the slice and the number, to recognise copies made differently."""
    recipe = RECIPES[strength]
    return f"{recipe.place} {recipe.grid.__name__} {recipe.intensity}"


def _seed_of(store: SliceStore, row: int, number: int) -> int:
    """A function of the slice's content: under another name, or in another store, it has the same copies."""
    entropy = [zlib.crc32(np.ascontiguousarray(store.images[row]).data), number]
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])
