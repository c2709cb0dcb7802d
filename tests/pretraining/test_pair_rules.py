"""P and D of every rule against their definitions, written as loops over hand-made slices."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from frugalseg.options import PretrainOptions
from frugalseg.pretraining import pair_rules
from tests.pretraining.metadata import make_metadata

#                      scan 0: liver in the middle       scan 1: all liver     scan 2: none     scan 3: one slice
SCANS = [0] * 5 + [1] * 4 + [2] * 3 + [3]
LIVER = [[0], [1], [1], [1], [0]] + [[1]] * 4 + [[0]] * 3 + [[1]]


def options(**changes):
    return PretrainOptions(data=Path("store"), out=Path("run"), **changes)


def two_views():
    """Every slice twice, first views then second."""
    return make_metadata(SCANS, LIVER).select(torch.arange(len(SCANS)).repeat(2))


def by_loops(metadata, positive, compared):
    """P and D from predicates on two entries; a, b are dictionaries of their facts."""
    entries = [{name: getattr(metadata, name)[i] for name in vars(metadata)} for i in range(len(metadata.row))]
    off = [[i != j for j in range(len(entries))] for i in range(len(entries))]
    p = [[off[i][j] and bool(positive(a, b)) for j, b in enumerate(entries)] for i, a in enumerate(entries)]
    d = [
        [p[i][j] or (off[i][j] and bool(compared(a, b))) for j, b in enumerate(entries)] for i, a in enumerate(entries)
    ]
    return torch.tensor(p), torch.tensor(d)


def everyone(a, b):
    return True


def check(rule, metadata, positive, compared, **changes):
    found = rule(metadata, options(**changes))
    expected = by_loops(metadata, positive, compared)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])
    assert not found[0].diagonal().any()
    assert not found[1].diagonal().any()
    assert (found[1] | ~found[0]).all()  # P inside D
    return found


def test_simclr_pairs_each_view_only_with_the_other():
    positives, compared = check(pair_rules.same_slice, two_views(), lambda a, b: a["row"] == b["row"], everyone)
    assert positives.sum(dim=1).tolist() == [1] * 26
    assert compared.sum(dim=1).tolist() == [25] * 26


def test_supcon_pairs_equal_organs_wherever_they_are():
    check(pair_rules.same_organs, two_views(), lambda a, b: (a["present"] == b["present"]).all(), everyone)


@pytest.mark.parametrize("threshold", [0.05, 0.1, 0.35])
def test_pcl_pairs_equal_heights(threshold):
    check(
        pair_rules.near_position,
        two_views(),
        lambda a, b: abs(a["position"] - b["position"]) < threshold,
        everyone,
        position_threshold=threshold,
    )


def test_gcl_never_repels_the_same_quarter():
    metadata = two_views()
    positives, compared = check(
        pair_rules.same_quarter,
        metadata,
        lambda a, b: a["row"] == b["row"] or (a["quarter"] == b["quarter"] and a["scan"] != b["scan"]),
        lambda a, b: a["quarter"] != b["quarter"],
    )
    same_part_of_same_scan = (metadata.quarter[:, None] == metadata.quarter) & (metadata.scan[:, None] == metadata.scan)
    other_slice = metadata.row[:, None] != metadata.row
    assert (same_part_of_same_scan & other_slice).any()
    assert not (compared & same_part_of_same_scan & other_slice).any()
    assert (positives.sum(dim=1) >= 1).all()


def test_polycl_o_in_batch():
    positives, _ = check(
        pair_rules.organs_in_batch, make_metadata(SCANS, LIVER), lambda a, b: a["organs"] == b["organs"], everyone
    )
    assert positives[0].nonzero().flatten().tolist() == [4, 9, 10, 11]


def test_polycl_s_in_batch():
    positives, compared = check(
        pair_rules.scan_in_batch,
        make_metadata(SCANS, LIVER),
        lambda a, b: a["scan"] == b["scan"],
        lambda a, b: a["scan"] != b["scan"],
    )
    assert not positives[12].any()  # a scan of one slice has no positive
    assert compared[12].sum() == 12


def test_polycl_m_in_batch_takes_negatives_of_its_own_scan_and_elsewhere_only_where_it_has_none():
    positives, compared = pair_rules.both_in_batch(make_metadata(SCANS, LIVER), options())
    assert positives[0].nonzero().flatten().tolist() == [4]
    assert (compared & ~positives)[0].nonzero().flatten().tolist() == [1, 2, 3]
    assert positives[5].nonzero().flatten().tolist() == [6, 7, 8]
    assert (compared & ~positives)[5].nonzero().flatten().tolist() == [0, 4, 9, 10, 11]  # all other slices without


@pytest.mark.parametrize("scope", ["same", "other", "any"])
def test_polycl_m_negative_scopes(scope):
    metadata = make_metadata(SCANS, LIVER)
    positives, compared = pair_rules.both_in_batch(metadata, options(neg_scope=scope))
    for a in range(len(SCANS)):
        opposite = {b for b in range(len(SCANS)) if LIVER[a] != LIVER[b]}
        scoped = {b for b in opposite if scope == "any" or (SCANS[a] == SCANS[b]) == (scope == "same")}
        own = {b for b in range(len(SCANS)) if SCANS[a] == SCANS[b] and LIVER[a] == LIVER[b]} - {a}
        assert set(positives[a].nonzero().flatten().tolist()) == own
        assert set((compared & ~positives)[a].nonzero().flatten().tolist()) == (scoped or opposite)


@pytest.mark.parametrize("rule", [pair_rules.organs_in_batch, pair_rules.scan_in_batch, pair_rules.both_in_batch])
def test_copies_of_a_slice_are_no_pair_in_one_view_rules(rule):
    metadata = make_metadata([0, 0, 1, 1], [[0], [1], [0], [1]]).select(torch.tensor([0, 0, 1, 2, 3]))
    positives, compared = rule(metadata, options())
    assert not positives[0, 1]
    assert not compared[0, 1]


@pytest.mark.parametrize("rule", [pair_rules.organs_in_batch, pair_rules.scan_in_batch, pair_rules.both_in_batch])
def test_min_dz_takes_near_duplicates_out_of_both_but_never_the_last_positive(rule):
    metadata = make_metadata([0, 0, 0, 1, 1], [[1], [1], [1], [1], [0]], z_mm=[0.0, 1.0, 9.0, 0.0, 1.0])
    positives, compared = rule(metadata, options(min_distance_mm=5.0))
    assert positives[0, :3].tolist() == [False, False, True]  # 1 mm away is too near, 9 mm is not
    assert not compared[0, 1]
    alone = make_metadata([0, 0, 1, 1], [[1], [1], [0], [0]], z_mm=[0.0, 1.0, 0.0, 1.0])
    waived, _ = rule(alone, options(min_distance_mm=5.0))
    assert waived[0, 1]


def test_queue_leaves_out_empty_places_and_the_querys_own_slice():
    positives, compared = pair_rules.queue_pairs(torch.tensor([7, 8]), torch.tensor([8, 3, 7, -1]))
    assert positives.tolist() == [[True, False, False, False, False, False], [False, True, False, False, False, False]]
    assert compared.tolist() == [[True, False, True, True, False, False], [False, True, False, True, True, False]]
