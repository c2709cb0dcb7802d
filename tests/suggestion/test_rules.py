"""The rules by which slices are suggested, on made-up features and a made-up model."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from frugalseg.errors import OptionError
from frugalseg.suggestion.candidates import Candidates
from frugalseg.suggestion.for_mask import PropagatedSlices, choose_for_mask, weigh_slices
from frugalseg.suggestion.rules import MEANINGS, RULES, Evidence
from frugalseg.suggestion.suggest import RULE_FOR_MASK

SLICES = 16


def make_candidates(patients, outlined=()):
    """Scans of 16 slices; `outlined` are rows."""
    table = pd.DataFrame([{"case": p, "patient": p, "z": z} for p in patients for z in range(SLICES)])
    rows = np.setdiff1d(np.arange(len(table)), outlined)
    store = SimpleNamespace(slices=table)
    return Candidates(store, rows, np.array(outlined, np.int64), len(rows))


def evidence(candidates, features=None, certainty=None, draw=0):
    def pick(rows):
        assert features is not None, "this rule asks for features"
        return features[rows]

    return Evidence(candidates, pick, certainty, draw)


def test_spread_takes_patients_in_turn_at_even_heights():
    choices = RULES["spread"](evidence(make_candidates("abcd")), 8)
    rows = np.array([choice.row for choice in choices])
    assert sorted(rows[:4] // SLICES) == sorted(rows[4:] // SLICES) == [0, 1, 2, 3]
    gaps = np.diff(np.sort(np.concatenate([[-1], rows % SLICES, [SLICES]])))
    assert gaps.max() <= 3  # eight slices spread over sixteen heights


def test_spread_prefers_patients_with_few_outlines():
    candidates = make_candidates("abc", outlined=(0, 1, SLICES + 3))
    rows = [choice.row for choice in RULES["spread"](evidence(candidates), 3)]
    assert [row // SLICES for row in rows] == [2, 1, 0]


def test_spread_stays_where_the_model_sees_the_organ():
    candidates = make_candidates("ab")
    areas = np.where(candidates.table["z"].between(5, 8), 100, 0)
    certainty = SimpleNamespace(areas=areas)
    rows = [choice.row for choice in RULES["spread"](evidence(candidates, certainty=certainty), 8)]
    assert {row % SLICES for row in rows} == {5, 6, 7, 8}


def blocks(candidates, size=4):
    """Features: four groups of heights that look alike in every scan."""
    group = candidates.store.slices["z"].to_numpy() // size
    return np.eye(SLICES // size, dtype=np.float32)[group]


def test_alike_finds_each_look_once_and_skips_what_is_outlined():
    candidates = make_candidates("abc", outlined=tuple(range(4)))  # the first look
    choices = RULES["alike"](evidence(candidates, blocks(candidates)), 3)
    assert sorted((choice.row % SLICES) // 4 for choice in choices) == [1, 2, 3]
    assert choices[0].represents == pytest.approx(12 / 44)


def test_unsure_goes_where_the_errors_are_expected():
    candidates = make_candidates("abc")
    errors = np.where(candidates.table["z"] // 4 == 2, 50.0, 1.0)
    certainty = SimpleNamespace(errors=errors)
    first = RULES["unsure"](evidence(candidates, blocks(candidates), certainty), 1)[0]
    assert (first.row % SLICES) // 4 == 2
    assert first.represents == pytest.approx(600 / 636)
    assert "94% of the errors" in first.reason


def test_unsure_prefers_many_alike_slices_to_one_odd_one():
    """Entropy alone takes the single most uncertain slice, which stands for no other."""
    candidates = make_candidates("abc")
    features = blocks(candidates)
    features[5] = 0  # unlike all others
    errors = np.where(candidates.table["z"] // 4 == 2, 10.0, 0.1)
    errors[5] = 12.0
    first = RULES["unsure"](evidence(candidates, features, SimpleNamespace(errors=errors)), 1)[0]
    assert first.row != 5


def chain(steps):
    """Features of neighbouring slices at these distances."""
    return np.concatenate([[0.0], np.cumsum(steps)]).astype(np.float32)[:, None]


def test_for_a_mask_the_slice_with_most_of_the_organ_near_comes_first():
    """A scan whose picture changes much between slices 9 and 10: most of the organ lies above."""
    steps = np.where(np.arange(29) == 9, 30.0, 1.0)
    weights = np.zeros(30)
    weights[5:25] = 1
    first = choose_for_mask(np.arange(30) + 100, chain(steps), 1, weights, None)[0]
    assert 14 <= first.row - 100 <= 20  # about the middle of 10…24, not that of 5…24
    assert "most of the organ is near" in first.reason


def test_for_a_mask_every_choice_raises_the_mean_confidence_most_by_trying_all():
    rng = np.random.default_rng(0)
    features, weights = chain(rng.uniform(0.2, 3, 24)), rng.uniform(0, 1, 25)
    rows = [choice.row for choice in choose_for_mask(np.arange(25), features, 3, weights, None)]
    change = features[:, 0].astype(float)
    rate = np.log(2) / (np.ptp(change) / 2)
    sure = np.exp(-rate * np.abs(change[:, None] - change[None]))
    for n, row in enumerate(rows):
        mean = [float(weights @ sure[[*rows[:n], z]].max(axis=0)) for z in range(25)]
        assert mean[row] == pytest.approx(max(mean), abs=1e-6)


def test_of_a_short_organ_all_slices_are_suggested_and_of_an_outlined_one_none(tmp_path):
    weights = np.where(np.arange(12) < 3, 1.0, 0.0)
    rows = [choice.row for choice in choose_for_mask(np.arange(12), chain(np.ones(11)), 10, weights, None)]
    assert sorted(rows) == [0, 1, 2]
    write_propagation(tmp_path / "a.slices.csv", [(z, "annotated", 100, 1.0) for z in range(3)])
    known = PropagatedSlices.read(tmp_path, "a", 12)
    with pytest.raises(OptionError, match="nothing is left to outline"):
        choose_for_mask(np.arange(12), chain(np.ones(11)), 1, weights, known)


def test_every_rule_is_explained():
    assert MEANINGS.keys() == {*RULES, RULE_FOR_MASK}


def test_slices_of_the_organ_count_equally_and_stray_pixels_not():
    assert weigh_slices(np.array([0, 3, 900, 20, 400.0])).tolist() == [0, 0, 1, 1, 1]
    assert weigh_slices(np.zeros(3)).tolist() == [1, 1, 1]


def write_propagation(path, rows):
    head = "slice,organ,source,propagated_from,distance_mm,area_mm2,score,agreement,change,confidence,review"
    lines = [f"{z},liver,{source},10,0,{area},1,1,1,{sure}," for z, source, area, sure in rows]
    path.write_text("\n".join([head, *lines]) + "\n")


def test_the_next_slice_is_where_the_propagation_is_unsure(tmp_path):
    """Propagated from slice 10: confident below, not above."""
    rows = [
        (z, "annotated" if z == 10 else "propagated", 100, 1.0 if z == 10 else 0.95 if z < 10 else 0.3)
        for z in range(5, 20)
    ]
    write_propagation(tmp_path / "a.slices.csv", rows)
    known = PropagatedSlices.read(tmp_path, "a", 30)
    assert known.annotated.tolist() == [10]
    assert known.area[4] == known.confidence[4] == 0
    choices = choose_for_mask(np.arange(30), chain(np.ones(29)), 2, weigh_slices(known.area), known)
    assert 13 <= choices[0].row <= 17
    assert choices[1].row not in (10, choices[0].row)
    assert "raises the mean confidence" in choices[0].reason
