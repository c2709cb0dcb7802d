"""Which pairs of a batch attract and which repel: P and D of every method, as boolean matrices.

A rule takes the metadata of N embeddings and returns P and D, (N, N), one row an anchor. Both exclude the diagonal,
and D contains P. In rules for two views both views of a slice are embeddings; in those for one view two copies of a
slice are never a pair. T is the set of organs present in a slice.

| rule | P | D |
|---|---|---|
| `same_slice` | other view | all others |
| `same_organs` | same T | all others |
| `near_position` | positions closer than the threshold, or other view | all others |
| `same_quarter` | other view, or same quarter of another scan | P one by one, and other quarters |
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

PairMatrices = tuple[Tensor, Tensor]
PairRule = Callable[[SliceMetadata, PretrainOptions], PairMatrices]


def _equal_pairs(values: Tensor) -> Tensor:
    """(N,) → (N, N), which pairs of entries are equal."""
    return values[:, None] == values[None, :]


def _off_diagonal(metadata: SliceMetadata) -> Tensor:
    """(N, N), true off the diagonal."""
    return ~torch.eye(len(metadata.row), dtype=torch.bool, device=metadata.row.device)


def same_slice(metadata: SliceMetadata, _: PretrainOptions) -> PairMatrices:
    """SimCLR (arXiv 2002.05709, eq. 1)."""
    others = _off_diagonal(metadata)
    return _equal_pairs(metadata.row) & others, others


def same_organs(metadata: SliceMetadata, _: PretrainOptions) -> PairMatrices:
    """SupCon (arXiv 2004.11362) with the set of organs present as the label."""
    others = _off_diagonal(metadata)
    return _equal_pairs(metadata.organs) & others, others


def near_position(metadata: SliceMetadata, options: PretrainOptions) -> PairMatrices:
    """PCL (arXiv 2106.09157): slices at about the same height of their scans; without heights, SimCLR's pairs."""
    others = _off_diagonal(metadata)
    distance = (metadata.position[:, None] - metadata.position[None, :]).abs()  # NaN where unknown: then never below
    return ((distance < options.position_threshold) | _equal_pairs(metadata.row)) & others, others


def same_quarter(metadata: SliceMetadata, _: PretrainOptions) -> PairMatrices:
    """GCL's global loss G^D (arXiv 2006.10511): same quarters of other scans are never negatives. Positives are
    compared one by one (`loss.contrastive_loss`), so none is in another's denominator."""
    quarter = _equal_pairs(metadata.quarter)
    positives = (_equal_pairs(metadata.row) | (quarter & ~_equal_pairs(metadata.scan))) & _off_diagonal(metadata)
    return positives, positives | ~quarter


def organs_in_batch(metadata: SliceMetadata, options: PretrainOptions) -> PairMatrices:
    """PolyCL-O against the whole batch."""
    other_slices = ~_equal_pairs(metadata.row)
    positives = _equal_pairs(metadata.organs) & other_slices
    return _drop_close_pairs(positives, other_slices, metadata, options.min_distance_mm)


def scan_in_batch(metadata: SliceMetadata, options: PretrainOptions) -> PairMatrices:
    """PolyCL-S against the whole batch."""
    scan = _equal_pairs(metadata.scan)
    positives = scan & ~_equal_pairs(metadata.row)
    return _drop_close_pairs(positives, positives | ~scan, metadata, options.min_distance_mm)


def both_in_batch(metadata: SliceMetadata, options: PretrainOptions) -> PairMatrices:
    """PolyCL-M against the whole batch; anchors without a negative in `neg_scope` take negatives from all scans."""
    scan, organs = _equal_pairs(metadata.scan), _equal_pairs(metadata.organs)
    positives = scan & organs & ~_equal_pairs(metadata.row)
    scope = {"same": scan, "other": ~scan, "any": torch.ones_like(scan)}[options.neg_scope]
    negatives = ~organs & scope
    negatives = torch.where(negatives.any(dim=1, keepdim=True), negatives, ~organs)
    return _drop_close_pairs(positives, positives | negatives, metadata, options.min_distance_mm)


def _drop_close_pairs(positives: Tensor, compared: Tensor, metadata: SliceMetadata, min_dz: float) -> PairMatrices:
    """Remove pairs of one scan closer than `min_dz` mm from P and D, except for anchors that would keep no positive."""
    if min_dz <= 0:
        return positives, compared
    near = _equal_pairs(metadata.scan) & ((metadata.z_mm[:, None] - metadata.z_mm[None, :]).abs() < min_dz) & positives
    near &= (positives & ~near).any(dim=1, keepdim=True)
    return positives & ~near, compared & ~near


def queue_pairs(rows: Tensor, queue_rows: Tensor) -> PairMatrices:
    """MoCo's P and D: (B, B + K) over the batch's keys, in the order of the queries, and the queue.

    Keys of the query's own slice are not negatives: a queue longer than the data holds them from the previous epoch.

    Args:
        rows: (B,) slices of the queries.
        queue_rows: (K,) slices of the queue's keys; -1 where it is not filled yet.
    """
    own = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    others = (queue_rows >= 0)[None, :] & (queue_rows[None, :] != rows[:, None])
    return torch.cat([own, torch.zeros_like(others)], dim=1), torch.cat([own, others], dim=1)
