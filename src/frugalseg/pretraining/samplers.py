"""Which slices make a batch.

A sampler returns all batches of an epoch as tensors of store rows, samples along the first axis; they depend on (seed,
epoch) only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from frugalseg.dataset.source import shuffled_batches
from frugalseg.engine.progress import say
from frugalseg.errors import OptionError, SplitError
from frugalseg.options import PretrainOptions
from frugalseg.pretraining.pairs import Ints, PairTable, TripletRule
from frugalseg.pretraining.slice_metadata import QUARTERS, SliceMetadata
from frugalseg.text import pluralize


@dataclass(frozen=True)
class Pool:
    """The slices that may be drawn.

    Attributes:
        rows: (N,) their rows in the store.
        metadata: of all slices of the store.
    """

    rows: Ints
    metadata: SliceMetadata

    @cached_property
    def pairs(self) -> PairTable:
        """The index tables of the triplet rules."""
        own = self.metadata.select(torch.from_numpy(self.rows))
        return PairTable(self.rows, own.scan.numpy(), own.present.numpy() > 0, own.z_mm.numpy())

    @cached_property
    def scan(self) -> Ints:
        """(N,) the scan of each row."""
        return self.metadata.scan.numpy()[self.rows]

    @cached_property
    def organs(self) -> Ints:
        """(N,) a number for the set of organs in each row."""
        return self.metadata.organs.numpy()[self.rows]

    @cached_property
    def quarter(self) -> Ints:
        """(N,) the quarter of its scan each row lies in."""
        return self.metadata.quarter.numpy()[self.rows]


Sampler = Callable[[Pool, PretrainOptions, int], list[Tensor]]


def _epoch_rng(options: PretrainOptions, epoch: int) -> np.random.Generator:
    return np.random.default_rng([options.seed, epoch, 3])


def shuffled_slices(pool: Pool, options: PretrainOptions, epoch: int) -> list[Tensor]:
    """Every slice once, in random order; batches (B,)."""
    return shuffled_batches(pool.rows, options.batch_size, options.seed, epoch)


def triplet_sampler(rule: TripletRule) -> Sampler:
    """Every slice once as an anchor, with a positive and a negative of `rule`; batches (B, 3)."""

    def draw(pool: Pool, options: PretrainOptions, epoch: int) -> list[Tensor]:
        drawn = pool.pairs.draw(rule, _epoch_rng(options, epoch), options.neg_scope, options.min_distance_mm)
        if epoch == 0 and len(drawn) < len(pool.rows):
            unpaired = pluralize(len(pool.rows) - len(drawn), "slice")
            say(f"not used as anchors: {unpaired} without a possible positive")
        return shuffled_batches(drawn.stack(), options.batch_size, options.seed, epoch)

    return draw


class _Cycle:
    """Slices in a fixed order, taken from the start again after the last."""

    def __init__(self, rows: Ints) -> None:
        self.rows, self.taken = rows, 0

    def take(self, count: int) -> Ints:
        """The next `count` rows."""
        places = np.arange(self.taken, self.taken + count)
        self.taken += count
        return np.take(self.rows, places, mode="wrap")


def scan_balanced(pool: Pool, options: PretrainOptions, epoch: int) -> list[Tensor]:
    """Batches (B,) of several slices from each of several scans, all scans equally often.

    A batch has as many scans as fit with `slices_per_scan` slices each. Within a scan, slices come in random order
    but in pairs of the same T, so that the slices of a rare organ get a positive; all slices of a scan are drawn
    before any is drawn again.

    Raises:
        OptionError: the batch is too small for two scans.
        SplitError: no scan has two slices.
    """
    size, least = options.batch_size, options.slices_per_scan
    if size < 2 * least:
        raise OptionError(
            f"--batch-size {size} is too small for {least} slices of each of two scans (--slices-per-scan {least})",
            f"give --batch-size {2 * least} or more",
        )
    rng = _epoch_rng(options, epoch)
    order = _order_in_pairs(pool, rng)
    groups = [group for group in np.split(order, _group_boundaries(pool.scan[order])) if len(group) > 1]
    if not groups:
        raise SplitError(
            f"{options.method} finds no positive: no two slices form a pair", "give scans of more than one slice"
        )
    cycles = [_Cycle(pool.rows[group]) for group in groups]
    scans = min(size // least, len(cycles))
    share = np.full(scans, size // scans) + (np.arange(scans) < size % scans)
    batches = max(1, sum(map(len, groups)) // size)
    chosen = [rng.choice(len(cycles), scans, replace=False) for _ in range(batches)]
    return [
        torch.from_numpy(np.concatenate([cycles[c].take(n) for c, n in zip(of_batch, share, strict=True)]))
        for of_batch in chosen
    ]


def _group_boundaries(sorted_groups: Ints) -> Ints:
    return np.flatnonzero(np.diff(sorted_groups)) + 1


def _order_in_pairs(pool: Pool, rng: np.random.Generator) -> Ints:
    """Positions in the pool, by scan; within it in random order, slices of the same T in pairs, single ones last."""
    shuffled = rng.permutation(len(pool.rows))
    cell = pool.scan * (pool.organs.max(initial=0) + 1) + pool.organs
    by_cell = shuffled[np.argsort(cell[shuffled], kind="stable")]
    starts = np.concatenate([[0], _group_boundaries(cell[by_cell])]).astype(np.int64)
    sizes = np.diff(np.append(starts, len(by_cell)))
    place = np.arange(len(by_cell)) - np.repeat(starts, sizes)
    single = (place == np.repeat(sizes, sizes) - 1) & (place % 2 == 0)
    ticket = rng.random(len(by_cell))
    second = np.flatnonzero(place % 2 == 1)
    ticket[second] = ticket[second - 1]  # both slices of a pair get the same place in their scan's order
    return by_cell[np.lexsort((place, ticket, single, pool.scan[by_cell]))]


def quarters_of_scans(pool: Pool, options: PretrainOptions, epoch: int) -> list[Tensor]:
    """GCL's batches (B,): one slice of each quarter of B / 4 scans, scan by scan; all scans equally often.

    Scans with fewer than four slices have empty quarters and are not used.

    Raises:
        OptionError: the batch size is not a multiple of four.
        SplitError: fewer than two scans have four slices.
    """
    if options.batch_size % QUARTERS:
        raise OptionError(
            f"--batch-size {options.batch_size}: gcl takes {QUARTERS} slices of each scan",
            f"give a multiple of {QUARTERS}",
        )
    rng = _epoch_rng(options, epoch)
    shuffled = rng.permutation(len(pool.rows))
    order = shuffled[np.lexsort((pool.quarter[shuffled], pool.scan[shuffled]))]
    cell = (pool.scan * QUARTERS + pool.quarter)[order]
    groups = {int(cell[group[0]]): order[group] for group in np.split(np.arange(len(order)), _group_boundaries(cell))}
    whole = [
        scan for scan in np.unique(pool.scan).tolist() if all(scan * QUARTERS + q in groups for q in range(QUARTERS))
    ]
    if len(whole) < 2:
        raise SplitError(
            f"gcl compares the quarters of several scans, and {len(whole)} training scans have four slices or more",
            "train on more scans, or use --method simclr or pcl",
        )
    cycles = {scan: [_Cycle(pool.rows[groups[scan * QUARTERS + q]]) for q in range(QUARTERS)] for scan in whole}
    usable = sum(len(cycle.rows) for of_scan in cycles.values() for cycle in of_scan)
    batches = max(1, usable // options.batch_size)
    scans = options.batch_size // QUARTERS
    rounds = -(-batches * scans // len(whole))
    sequence = np.concatenate([rng.permutation(whole) for _ in range(rounds)])[: batches * scans]
    taken = [cycle.take(1) for scan in sequence.tolist() for cycle in cycles[scan]]
    return list(torch.from_numpy(np.concatenate(taken).reshape(batches, options.batch_size)))
