"""The ways to choose the slices of a budget, on a table of made-up scans."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from frugalseg.dataset.budget import Budget, draw_labels, find_budget_showing
from frugalseg.dataset.descriptors import describe_slices, shrink
from frugalseg.dataset.slice_choice import RULES, ChooseRepresentatives, choose_interval, choose_middle, find_rule
from frugalseg.errors import OptionError, SplitError

PATIENTS = [f"p{i}" for i in range(6)]
SLICES = 20
SHOWN = range(6, 15)
"""Slices of every scan that show the liver: nine, of which 10 is in the middle."""


def make_table():
    return pd.DataFrame(
        [
            {"case": f"{p}_a", "patient": p, "z": z, "labelled": True, "has_liver": z in SHOWN}
            for p in PATIENTS
            for z in range(SLICES)
        ]
    )


def make_images():
    """A bright bar that moves down with z: slices of one height look alike in all scans."""
    images = np.zeros((len(PATIENTS) * SLICES, 32, 32), np.float16)
    for row in range(len(images)):
        images[row, row % SLICES : row % SLICES + 8] = 1
    return images


def rule(name):
    return RULES[name](SimpleNamespace(images=make_images()))


def draw(text, name, number=0, patients=PATIENTS):
    return draw_labels(make_table(), patients, Budget.parse(text), number, ["has_liver"], rule(name))


def heights(rows):
    return sorted(row % SLICES for row in rows)


@pytest.mark.parametrize("name", RULES)
def test_budgets_are_nested_and_have_their_size(name):
    small, large = draw("5 slices", name), draw("20 slices", name)
    assert (len(small), len(large)) == (5, 20)
    assert set(small) <= set(large)
    assert len(set(large)) == 20


@pytest.mark.parametrize("name", ["random", "random-all", "interval", "middle"])
def test_patients_take_turns(name):
    assert np.bincount(draw("6 slices", name) // SLICES).tolist() == [1] * 6
    assert np.bincount(draw("18 slices", name) // SLICES).tolist() == [3] * 6


@pytest.mark.parametrize("name", ["random", "interval", "middle", "suggest"])
def test_every_slice_shows_the_organ(name):
    assert set(heights(draw("54 slices", name))) == set(SHOWN)
    with pytest.raises(SplitError, match="only 54"):
        draw("55 slices", name)


def test_random_of_all_slices_counts_empty_ones_as_annotation():
    assert set(heights(draw("120 slices", "random-all"))) == set(range(SLICES))
    empty = [sum(z not in SHOWN for z in heights(draw("20 slices", "random-all", n))) for n in range(30)]
    assert np.mean(empty) == pytest.approx(20 * 11 / 20, abs=1.5)


def test_the_middle_comes_first():
    assert heights(draw("6 slices", "middle")) == [10] * 6
    assert set(heights(draw("18 slices", "middle"))) == {9, 10, 11}


def test_intervals_cover_the_organ_evenly_over_all_patients():
    """Seven slices of six patients: an eighth of the organ's extent apart, where random ones leave gaps."""
    for number in range(5):
        places = [z - SHOWN.start for z in heights(draw("6 slices", "interval", number))]
        assert np.diff(places).max() <= 2
        assert places[0] <= 2
        assert places[-1] >= 6
    assert draw("6 slices", "interval", 0).tolist() != draw("6 slices", "interval", 1).tolist()


def test_suggested_slices_spread_over_what_the_images_show_and_are_the_same_for_every_draw():
    rows = draw("3 slices", "suggest")
    assert np.diff(heights(rows)).min() >= 3
    assert rows.tolist() == draw("3 slices", "suggest", 5).tolist()


def test_suggested_slices_are_read_from_training_patients_only():
    """Neither images nor the presence of organs in scans of other patients have an influence: they are unreadable."""
    table, images = make_table(), make_images()
    hidden = table["patient"].isin(["p4", "p5"]).to_numpy()
    expected = draw_labels(table, PATIENTS[:4], Budget(5, "slices"), 0, ["has_liver"], ChooseRepresentatives(images))
    images[hidden] = np.nan
    table.loc[hidden, "has_liver"] = ~table.loc[hidden, "has_liver"]
    for name in RULES:
        choose = ChooseRepresentatives(images) if name == "suggest" else rule(name)
        rows = draw_labels(table, PATIENTS[:4], Budget(5, "slices"), 0, ["has_liver"], choose)
        assert rows.max() < 4 * SLICES
        assert name != "suggest" or rows.tolist() == expected.tolist()


def test_the_smallest_budget_that_shows_an_organ_is_that_of_the_rule():
    table = make_table()
    table["has_tip"] = table["z"] == SHOWN[-1]
    organs = ["has_liver", "has_tip"]
    for choose in (choose_middle, choose_interval):
        found = find_budget_showing(table, PATIENTS, "slices", 0, organs, ["has_tip"], choose=choose)
        assert found is not None
        for amount, there in ((int(found.amount), True), (int(found.amount) - 1, False)):
            rows = draw_labels(table, PATIENTS, Budget(amount, "slices"), 0, organs, choose)
            assert table.loc[rows, "has_tip"].any() == there
    assert found.amount < 20  # at even intervals the end comes early, from the middle outwards late


def test_a_rule_needs_a_budget_of_slices():
    with pytest.raises(OptionError, match="--choose middle applies to budgets of slices"):
        find_rule("middle", "scans", SimpleNamespace(images=None))
    assert find_rule("random", "%", SimpleNamespace(images=None)) is RULES["random"](None)


def test_thumbnails_are_means_of_tiles_of_any_size():
    rng = np.random.default_rng(0)
    images = rng.uniform(size=(2, 40, 40)).astype(np.float32)
    tiles = shrink(images).reshape(2, 16, 16)
    edges = np.linspace(0, 40, 17).astype(int)
    for i, j in ((0, 0), (3, 7), (15, 15)):
        assert tiles[1, i, j] == pytest.approx(images[1, edges[i] : edges[i + 1], edges[j] : edges[j + 1]].mean())


def test_descriptions_keep_the_distances_of_thumbnails():
    images = make_images()
    rows = np.arange(0, 120, 3)
    vectors, tiles = describe_slices(images, rows), shrink(images[rows])
    for i, j in ((0, 1), (5, 30), (39, 2)):
        assert np.linalg.norm(vectors[i] - vectors[j]) == pytest.approx(np.linalg.norm(tiles[i] - tiles[j]), rel=1e-3)
