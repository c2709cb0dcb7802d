"""Who attracts and who repels within a batch: P and D of every method, as boolean matrices.

A rule takes the facts of N embeddings and gives P and D, (N, N), row by row the anchors; both without the diagonal,
and P inside D. Rules for two views count both views of a slice as its embeddings, those for one view never
call two copies of one slice a pair.

| rule | P | D |
|---|---|---|
| `same_slice` | other view | all others |
| `same_organs` | same T | all others |
| `near_position` | positions closer than the threshold, or other view | all others |
| `same_quarter` | other view, or same quarter of another scan | P, each alone with other quarters |
| `organs_in_batch` | same T | all others |
| `scan_in_batch` | same scan | P and other scans |
| `both_in_batch` | same scan and T | P and, of the same scan (`neg_scope`), other T |
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from frugalseg.options import PretrainOptions
from frugalseg.pretraining.slice_metadata import SliceMetadata

Masks = tuple[Tensor, Tensor]
PairRule = Callable[[SliceMetadata, PretrainOptions], Masks]


def _same(values: Tensor) -> Tensor:
    """(N,) → (N, N), which entries are equal."""
    return values[:, None] == values[None, :]


def _others(facts: SliceMetadata) -> Tensor:
    """Everything but the diagonal."""
    return ~torch.eye(len(facts.row), dtype=torch.bool, device=facts.row.device)


def same_slice(facts: SliceMetadata, _: PretrainOptions) -> Masks:
    """SimCLR (arXiv 2002.05709, eq. 1)."""
    others = _others(facts)
    return _same(facts.row) & others, others


def same_organs(facts: SliceMetadata, _: PretrainOptions) -> Masks:
    """SupCon (arXiv 2004.11362) with the set of organs present as the label."""
    others = _others(facts)
    return _same(facts.organs) & others, others


def near_position(facts: SliceMetadata, options: PretrainOptions) -> Masks:
    """PCL (arXiv 2106.09157): slices at the same height of their scans; where they have none, SimCLR's pairs."""
    others = _others(facts)
    apart = (facts.position[:, None] - facts.position[None, :]).abs()  # NaN where there is no height, and not below
    return ((apart < options.position_threshold) | _same(facts.row)) & others, others


def same_quarter(facts: SliceMetadata, _: PretrainOptions) -> Masks:
    """GCL's global loss G^D (arXiv 2006.10511): same quarters of other scans are never negatives. Its positives are
    compared one by one (`loss.contrastive_loss`), so none of them stands in another's denominator."""
    quarter = _same(facts.quarter)
    positives = (_same(facts.row) | (quarter & ~_same(facts.scan))) & _others(facts)
    return positives, positives | ~quarter


def organs_in_batch(facts: SliceMetadata, options: PretrainOptions) -> Masks:
    """PolyCL-O against the whole batch."""
    apart = ~_same(facts.row)
    return _at_distance(_same(facts.organs) & apart, apart, facts, options.min_distance_mm)


def scan_in_batch(facts: SliceMetadata, options: PretrainOptions) -> Masks:
    """PolyCL-S against the whole batch."""
    scan = _same(facts.scan)
    positives = scan & ~_same(facts.row)
    return _at_distance(positives, positives | ~scan, facts, options.min_distance_mm)


def both_in_batch(facts: SliceMetadata, options: PretrainOptions) -> Masks:
    """PolyCL-M against the whole batch; anchors without a negative in their scope take those of the other."""
    scan, organs = _same(facts.scan), _same(facts.organs)
    positives = scan & organs & ~_same(facts.row)
    scope = {"same": scan, "other": ~scan, "any": torch.ones_like(scan)}[options.neg_scope]
    negatives = ~organs & scope
    negatives = torch.where(negatives.any(dim=1, keepdim=True), negatives, ~organs)
    return _at_distance(positives, positives | negatives, facts, options.min_distance_mm)


def _at_distance(positives: Tensor, compared: Tensor, facts: SliceMetadata, min_dz: float) -> Masks:
    """Take pairs of one scan closer than `min_dz` mm out of P and D, but for anchors that would keep no positive."""
    if min_dz <= 0:
        return positives, compared
    near = _same(facts.scan) & ((facts.z_mm[:, None] - facts.z_mm[None, :]).abs() < min_dz) & positives
    near &= (positives & ~near).any(dim=1, keepdim=True)
    return positives & ~near, compared & ~near


def queue_masks(rows: Tensor, queue_rows: Tensor) -> Masks:
    """MoCo's P and D: (B, B + K) over the batch's keys, one a query in the same order, and the queue.

    Keys of the query's own slice are no negatives: a queue longer than the data holds them from the epoch before.

    Args:
        rows: (B,) slices of the queries.
        queue_rows: (K,) slices of the queue's keys; -1 where it is not yet filled.
    """
    own = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    others = (queue_rows >= 0)[None, :] & (queue_rows[None, :] != rows[:, None])
    return torch.cat([own, torch.zeros_like(others)], dim=1), torch.cat([own, others], dim=1)
