"""What every batch of an epoch must hold, on cohorts drawn at random."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from frugalseg.errors import OptionError, SplitError
from frugalseg.options import PretrainOptions
from frugalseg.pretraining.samplers import Pool, quarters_of_scans, scan_balanced, shuffled_slices, triplet_sampler
from tests.pretraining.metadata import make_metadata


def options(**changes):
    return PretrainOptions(**{"data": Path("store"), "out": Path("run"), "batch_size": 8} | changes)


def pool_of(lengths, organs=lambda z, n: n // 3 <= z < 2 * n // 3, rows=None):
    """Scans of these lengths, with the organ in their middle thirds."""
    scan = [i for i, n in enumerate(lengths) for _ in range(n)]
    present = [[organs(z, n)] for n in lengths for z in range(n)]
    return Pool(np.arange(len(scan)) if rows is None else np.array(rows), make_metadata(scan, present))


lengths_of_scans = st.lists(st.integers(1, 12), min_size=2, max_size=6).filter(lambda n: sum(k > 1 for k in n) > 1)


@given(lengths_of_scans, st.integers(8, 24), st.integers(2, 4), st.integers(0, 9))
@settings(max_examples=150, deadline=None)
def test_every_scan_of_a_batch_has_enough_slices_in_it(lengths, size, least, epoch):
    pool = pool_of(lengths)
    for batch in scan_balanced(pool, options(batch_size=size, slices_per_scan=least), epoch):
        assert batch.shape == (size,)
        scans, counts = np.unique(pool.metadata.scan[batch].numpy(), return_counts=True)
        assert counts.min() >= least
        assert len(scans) == min(size // least, sum(n > 1 for n in lengths))
        assert counts.max() - counts.min() <= 1
        for scan, count in zip(scans, counts, strict=True):
            distinct = len(set(batch[pool.metadata.scan[batch] == scan].tolist()))
            assert distinct == min(count, lengths[scan])  # no slice twice before each was there once


def test_long_scans_come_no_oftener_than_short_ones():
    pool = pool_of([4] * 10 + [400])
    batches = torch.cat(scan_balanced(pool, options(slices_per_scan=4), 0))
    share = np.bincount(pool.metadata.scan[batches].numpy()) / len(batches)
    assert share[10] < 2 * share[:10].mean()


def test_slices_of_a_rare_organ_come_in_pairs():
    """One slice in ten holds the organ; drawn blindly, most of them would have no partner among their four."""
    pool = pool_of([40] * 6, organs=lambda z, n: z < 4)
    alone = met = 0
    for epoch in range(10):
        for batch in scan_balanced(pool, options(slices_per_scan=4), epoch):
            for scan in set(pool.metadata.scan[batch].tolist()):
                organ = pool.metadata.present[batch[pool.metadata.scan[batch] == scan], 0]
                alone += int(organ.sum() == 1)
                met += int(organ.sum() >= 2)
    assert met > 20
    assert alone == 0


def test_without_labels_the_order_within_a_scan_is_plainly_random():
    """polycl-s-batch may not know organs: its facts hold none, and nothing else may order the slices."""
    blind = Pool(np.arange(40), make_metadata([0] * 20 + [1] * 20, np.zeros((40, 0))))
    firsts = [scan_balanced(blind, options(slices_per_scan=4), epoch)[0] for epoch in range(60)]
    counts = np.bincount(torch.cat(firsts).numpy(), minlength=40)
    assert counts.min() > 0
    assert counts.max() < 12 * 2.5  # 12 on average


def test_a_batch_too_small_for_two_scans_is_refused():
    with pytest.raises(OptionError, match="too small for 4 slices of each of two scans"):
        scan_balanced(pool_of([8, 8]), options(batch_size=7), 0)


def test_scans_of_one_slice_have_no_pairs():
    with pytest.raises(SplitError, match="no positive"):
        scan_balanced(pool_of([1] * 20), options(), 0)


@given(st.lists(st.integers(4, 15), min_size=2, max_size=6), st.integers(1, 5), st.integers(0, 9))
@settings(max_examples=100, deadline=None)
def test_gcl_batches_hold_one_slice_of_each_quarter_of_each_of_their_scans(lengths, scans, epoch):
    pool = pool_of(lengths)
    batches = quarters_of_scans(pool, options(batch_size=4 * scans), epoch)
    assert len(batches) == max(1, sum(lengths) // (4 * scans))
    for batch in batches:
        scan, quarter = pool.metadata.scan[batch].view(-1, 4), pool.metadata.quarter[batch].view(-1, 4)
        assert (scan == scan[:, :1]).all()
        assert torch.equal(quarter, torch.arange(4).expand(len(quarter), 4))
        if scans <= len(lengths) and len(batches) == 1:
            assert len(set(scan[:, 0].tolist())) == scans


def test_gcl_errors_state_its_requirements():
    with pytest.raises(OptionError, match="multiple of 4"):
        quarters_of_scans(pool_of([8, 8]), options(batch_size=10), 0)
    with pytest.raises(SplitError, match="1 training scans have four slices"):
        quarters_of_scans(pool_of([8, 3]), options(), 0)


def test_quarters_are_those_of_the_slices_that_are_used():
    """The middle 30% of a scan has four quarters too; positions in the whole scan would put it in two of them."""
    pool = pool_of([8, 8, 8], rows=None)
    assert [len(set(pool.metadata.quarter[b].tolist())) for b in quarters_of_scans(pool, options(), 0)] == [4, 4, 4]


@pytest.mark.parametrize(
    "sampler",
    [shuffled_slices, scan_balanced, quarters_of_scans, triplet_sampler("polycl-m"), triplet_sampler("random-pairs")],
)
def test_one_seed_repeats_epochs_and_seeds_differ_and_rows_are_the_pools(sampler):
    everything = pool_of([12, 12, 12])
    used = np.array([i for i in range(36) if i % 12 > 1])
    pool = Pool(used, everything.metadata)
    first, again = (torch.stack(sampler(pool, options(), 0)) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, torch.stack(sampler(pool, options(), 1)))
    assert not torch.equal(first, torch.stack(sampler(pool, options(seed=1), 0)))
    assert set(first.flatten().tolist()) <= set(used.tolist())


def test_shuffled_slices_come_once_an_epoch():
    drawn = torch.cat(shuffled_slices(pool_of([8, 8]), options(), 3))
    assert sorted(drawn.tolist()) == list(range(16))
