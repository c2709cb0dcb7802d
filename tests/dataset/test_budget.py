from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from frugalseg.dataset.budget import Budget, draw_labels, find_budget_showing
from frugalseg.errors import OptionError, SplitError

PATIENTS = [f"p{i:02d}" for i in range(20)]


@pytest.fixture
def slices():
    """20 patients, p00 with two scans, 10 slices each, liver in slices 3–6; p18 and p19 unlabelled."""
    cases = [(p, f"{p}_a") for p in PATIENTS] + [("p00", "p00_b")]
    table = pd.DataFrame(
        [
            {"case": case, "patient": patient, "z": z, "labelled": patient < "p18", "has_liver": 3 <= z <= 6}
            for patient, case in cases
            for z in range(10)
        ]
    )
    table.index += 1000  # rows, not positions, must come back
    return table


def draw(slices, text, number=0, patients=PATIENTS):
    return draw_labels(slices, patients, Budget.parse(text), number, ["has_liver"])


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        ("5%", 5, "%"),
        ("12.5 %", 12.5, "%"),
        ("3 scans", 3, "scans"),
        ("1 scan", 1, "scans"),
        ("50slices", 50, "slices"),
    ],
)
def test_reads_budgets(text, amount, unit):
    assert Budget.parse(text) == Budget(amount, unit)


@pytest.mark.parametrize("text", ["", "5", "-5%", "0 scans", "2.5 scans", "101%", "three scans", "5 patients"])
def test_refuses_what_is_no_budget(text):
    with pytest.raises(OptionError):
        Budget.parse(text)


def test_budgets_of_one_draw_are_nested(slices):
    for ladder in (
        ["1 scan", "3 scans", "10 scans"],
        ["5%", "10%", "50%", "100%"],
        ["5 slices", "20 slices", "72 slices"],
    ):
        for number in range(5):
            taken = [set(draw(slices, text, number)) for text in ladder]
            assert all(small < large for small, large in pairwise(taken))


def test_whole_scans_are_taken_and_only_labelled_training_patients(slices):
    rows = draw(slices, "3 scans", patients=PATIENTS[:10])
    table = slices.loc[rows]
    assert (table.groupby("case").size() == 10).all()
    assert table["case"].nunique() == 3
    assert table["patient"].max() < "p10"
    assert len(draw(slices, "100%")) == 19 * 10
    assert slices.loc[draw(slices, "100%"), "labelled"].all()


def test_percent_counts_patients_and_takes_all_their_scans(slices):
    assert slices.loc[draw(slices, "50%"), "patient"].nunique() == 9
    assert slices.loc[draw(slices, "1%"), "patient"].nunique() == 1
    for number in range(40):
        table = slices.loc[draw(slices, "20%", number)]
        if "p00" in set(table["patient"]):
            assert {"p00_a", "p00_b"} <= set(table["case"])
            return
    raise AssertionError("no draw of forty held p00")


def test_slices_hold_the_target_and_come_from_as_many_patients_as_can_be(slices):
    table = slices.loc[draw(slices, "18 slices")]
    assert len(table) == 18
    assert table["has_liver"].all()
    assert table["patient"].nunique() == 18


def test_draws_differ_and_repeat(slices):
    assert len({tuple(draw(slices, "3 scans", n)) for n in range(10)}) > 5
    assert np.array_equal(draw(slices, "7 slices", 4), draw(slices, "7 slices", 4))


def test_more_than_there_is(slices):
    with pytest.raises(SplitError, match="only 19 labelled training scans"):
        draw(slices, "20 scans")
    with pytest.raises(SplitError, match="only 76 labelled training slices"):
        draw(slices, "77 slices")
    with pytest.raises(SplitError, match="no training patient has labels"):
        draw(slices, "1 scan", patients=["p18", "p19"])


def test_it_is_told_where_the_other_labelled_scans_are(slices):
    with pytest.raises(SplitError, match="only 3 .*; the split uses 16 other labelled scans .* and test") as caught:
        draw(slices, "4 scans", patients=PATIENTS[1:4])
    assert "--split" in caught.value.cure
    assert "--fractions 0.15 0" in caught.value.cure
    with pytest.raises(SplitError, match="show a target; the split uses 16 other"):
        draw(slices, "400 slices", patients=PATIENTS[1:4])
    with pytest.raises(SplitError) as caught:
        draw(slices, "20 scans")
    assert "split" not in caught.value.problem
    assert caught.value.cure == "give at most 19"


def test_in_words_there_is_one_scan_and_there_are_three():
    words = {text: Budget.parse(text).in_words for text in ("1 scan", "1 slices", "3 scans", "5%", "1%")}
    assert words == {"1 scan": "1 scan", "1 slices": "1 slice", "3 scans": "3 scans", "5%": "5%", "1%": "1%"}
    assert str(Budget.parse("1 scan")) == "1 scans"  # one spelling: it names the models of a study


@pytest.mark.parametrize("unit", ["%", "scans", "slices"])
@pytest.mark.parametrize("least", [1, 2, 5])
def test_the_smallest_budget_that_shows_an_organ_is_the_first_of_all(slices, unit, least):
    """Against a search from below; the gland is in one slice of two patients, and in three of a third."""
    slices["has_gland"] = False
    for patient, planes in (("p03", [4]), ("p11", [5]), ("p16", [3, 4, 9])):
        slices.loc[(slices["patient"] == patient) & slices["z"].isin(planes), "has_gland"] = True
    organs = ["has_liver", "has_gland"]

    def count(amount, number):
        rows = draw_labels(slices, PATIENTS, Budget(amount, unit), number, organs)
        return slices.loc[rows, "has_gland"].sum()

    for number in range(4):
        found = find_budget_showing(slices, PATIENTS, unit, number, organs, ["has_gland"], least)
        assert found == Budget(next(n for n in range(1, 101) if count(n, number) >= least), unit)


def test_there_is_no_budget_for_an_organ_that_no_training_label_shows(slices):
    slices["has_gland"] = slices["patient"] == "p12"
    training = [p for p in PATIENTS if p != "p12"]
    for unit in ("%", "scans", "slices"):
        assert find_budget_showing(slices, training, unit, 0, ["has_liver", "has_gland"], ["has_gland"]) is None
