from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import scipy.stats

from frugalseg.errors import OptionError, PairingError
from frugalseg.evaluation.case_row import CaseRow
from frugalseg.evaluation.evaluate import evaluate
from frugalseg.evaluation.group_table import read_group_table
from frugalseg.evaluation.policy import Outcome
from frugalseg.evaluation.statistics import compare_means, holm, rank_sum_p
from frugalseg.evaluation.subgroups import compare_subgroups
from frugalseg.options import EvaluateOptions
from tests.accessible import assert_accessible
from tests.evaluation.blobs import LIVER, labels, write_masks


def table(tmp_path, text):
    path = tmp_path / "groups.csv"
    path.write_text(text, encoding="utf-8")
    return path


def row(case, dice, hd95=5.0):
    return CaseRow(case, "test", "liver", Outcome.BOTH, {"dice": dice, "hd95_mm": hd95})


def compared(tmp_path, scores, text, patients=None):
    """Scores: case → Dice; text: the table."""
    patients = patients or {case: case for case in scores}
    groups = read_group_table(table(tmp_path, text), patients)
    return compare_subgroups([row(*pair) for pair in scores.items()], ["liver"], groups, "all", 1000, 0)


def sites(first, second):
    """Scores of the patients of two sites, and their table."""
    scores = {f"a{i}": dice for i, dice in enumerate(first)} | {f"b{i}": dice for i, dice in enumerate(second)}
    return scores, "case,site\n" + "".join(f"{case},{case[0].upper()}\n" for case in scores)


FIRST = (0.90, 0.92, 0.91, 0.93, 0.95, 0.94, 0.89)
SECOND = (0.80, 0.82, 0.70, 0.78, 0.75, 0.81)


def test_a_large_difference_of_enough_patients_is_supported(tmp_path):
    found = compared(tmp_path, *sites(FIRST, SECOND))
    means = {one.group: one for one in found.means if one.metric == "dice"}
    assert (means["A"].mean, means["B"].n) == (pytest.approx(np.mean(FIRST)), 6)
    assert means["A"].ci95_kind == "t interval, 7 patients"
    dice, hd95 = found.differences
    welch = scipy.stats.ttest_ind(SECOND, FIRST, equal_var=False)
    limits = welch.confidence_interval(0.95)
    assert dice.difference == pytest.approx(np.mean(SECOND) - np.mean(FIRST))
    assert dice.ci95 == pytest.approx((limits.low, limits.high))
    assert dice.p == scipy.stats.mannwhitneyu(FIRST, SECOND).pvalue == pytest.approx(2 / 1716)  # all of 13 over 6 apart
    assert (dice.verdict, hd95.verdict) == ("supported", "not shown")
    assert (hd95.p, hd95.p_holm) == (None, None)  # all alike: nothing to test
    assert found.patients == 13


def test_fewer_than_six_patients_support_nothing(tmp_path):
    found = compared(tmp_path, *sites(FIRST, SECOND[:5]))
    dice = found.differences[0]
    assert dice.p < 0.05
    assert not dice.ci95[0] <= 0 <= dice.ci95[1]
    assert dice.verdict == "too few patients"


def test_p_is_corrected_for_everything_that_was_tried(tmp_path):
    scores, _ = sites(FIRST, SECOND)
    text = "case,site,coin,die\n" + "".join(
        f"{case},{case[0]},{'ht'[i % 2]},{'xyz'[i % 3]}\n" for i, case in enumerate(scores)
    )
    found = compared(tmp_path, scores, text)
    tried = [one.p for one in found.differences if one.metric == "dice"]
    assert len(tried) == 1 + 1 + 3
    assert [one.p_holm for one in found.differences if one.metric == "dice"] == pytest.approx(holm(tried))


def test_scans_of_a_patient_are_averaged_first(tmp_path):
    scores = {"p1_a": 0.5, "p1_b": 0.7, "p2_a": 0.9, "p3_a": 0.8}
    patients = {case: case[:2] for case in scores}
    found = compared(tmp_path, scores, "patient;sex\np1;F\np2;F\np3;M\n", patients)
    women = found.means[0]
    assert (women.group, women.n, women.mean) == ("F", 2, pytest.approx((0.6 + 0.9) / 2))


def test_scores_that_are_left_out_and_empty_cells_do_not_count(tmp_path):
    scores = {"a": 0.5, "b": float("nan"), "c": 0.7, "d": 0.9}
    found = compared(tmp_path, scores, "case,site\na,A\nb,A\nc,B\nd,\n")
    assert [(one.group, one.n) for one in found.means if one.metric == "dice"] == [("A", 1), ("B", 1)]
    assert found.without_value == {"site": 1}
    assert found.differences[0].ci95_kind == "no interval: 1 and 1 patient"
    assert found.differences[0].p is None


def test_welch_s_interval_needs_two_patients_and_a_spread():
    assert compare_means([1.0], [2.0, 3.0]).limits is None
    assert compare_means([1.0, 1.0], [2.0, 2.0]).kind == (
        "no interval: 2 and 2 patients, all of a group with the same score"
    )
    assert np.isnan(rank_sum_p([1.0, 1.0], [1.0, 1.0]))


def test_columns_that_do_not_divide_the_patients_are_left_out_with_the_reason(tmp_path):
    cases = [f"p{i}" for i in range(20)]
    text = "case,site,device,age,field,name,note\n" + "".join(
        f"{case},{i % 2},x,{40 + i},{(1.5, 3.0)[i % 2]},n{i},\n" for i, case in enumerate(cases)
    )
    found = read_group_table(table(tmp_path, text), {case: case for case in cases})
    assert [column.name for column in found.columns] == ["site", "field"]
    assert found.left_out == {
        "device": "has one value (x)",
        "age": "is a measurement (20 different numbers): divide it into groups, such as <50 and >=50",
        "name": "has 20 different values, more than 8 groups",
        "note": "is empty",
    }


def test_groups_of_scans_of_one_patient_are_left_out(tmp_path):
    text = "case,scanner,sex\np1_a,GE,F\np1_b,Siemens,F\np2_a,GE,M\n"
    found = read_group_table(table(tmp_path, text), {"p1_a": "p1", "p1_b": "p1", "p2_a": "p2"})
    reason = "has several values for the scans of one patient (p1): groups compare patients"
    assert found.left_out == {"scanner": reason}


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("case,site\na,A\n", PairingError, r"has no row for 1 scan: b"),
        ("case,site\na,A\nb,A\n", OptionError, r"no column of .* divides the patients: site has one value \(A\)"),
        ("case,site\na,A\nb,B\na,B\n", OptionError, r"two different rows for 'a'"),
        ("case\na\nb\n", OptionError, "not a table with a heading line and two or more columns"),
        ("", OptionError, "not a table"),
        ("case,site\na,A\nb\n", OptionError, "line 3 has not 2 cells"),
        ("case,site,site\na,A,B\nb,B,A\n", OptionError, "heading 'site' twice"),
    ],
)
def test_bad_tables_are_errors(tmp_path, text, kind, said):
    with pytest.raises(kind, match=said):
        read_group_table(table(tmp_path, text), {"a": "a", "b": "b"})


def test_a_table_that_is_not_there_or_is_no_text_is_an_error(tmp_path):
    with pytest.raises(OptionError, match="does not exist"):
        read_group_table(tmp_path / "no.csv", {"a": "a"})
    (tmp_path / "groups.xlsx").write_bytes(b"PK\x03\x04\xff\xfe")
    with pytest.raises(OptionError, match="cannot be read"):
        read_group_table(tmp_path / "groups.xlsx", {"a": "a"})


def test_rows_of_other_patients_spaces_and_excel_s_semicolons_do_not_matter(tmp_path):
    path = table(tmp_path, "\ufeffcase ; site\r\n a ; A \r\nb;B\r\nz;C\r\n\r\n")
    (column,) = read_group_table(path, {"a": "a", "b": "b"}).columns
    assert (column.name, column.groups) == ("site", {"A": ["a"], "B": ["b"]})


def test_an_evaluation_compares_groups_of_unseen_scans_in_every_file(tmp_path, capsys):
    shifted = labels(np.roll(LIVER, 1, axis=0))
    cases = [f"p{i}" for i in range(14)]
    masks = {case: shifted if i % 2 else labels() for i, case in enumerate(cases)}
    roles = {case: "test" if i < 13 else "train" for i, case in enumerate(cases)}
    write_masks(tmp_path, masks, roles)
    text = "case,scanner,age\n" + "".join(f"{c},{('GE', 'Siemens')[i % 2]},{i}.5\n" for i, c in enumerate(cases[:13]))
    folders = {"predictions": tmp_path / "pred", "references": tmp_path / "ref", "out": tmp_path / "out"}
    options = EvaluateOptions(**folders, target=["liver=6"], groups=table(tmp_path, text), workers=0)
    summary = evaluate(options)
    assert (summary.subgroups.scans, summary.subgroups.patients) == ("unseen", 13)
    shown = capsys.readouterr()
    assert "column age of" in shown.err
    assert "subgroups: 0 of 2 differences supported" in shown.out  # no spread within a group, so no interval
    means = list(csv.DictReader((tmp_path / "out" / "subgroups.csv").open(newline="")))
    assert [(r["group"], r["metric"], r["n"], float(r["mean"])) for r in means[:2]] == [
        ("GE", "dice", "7", 1.0),
        ("Siemens", "dice", "6", 7 / 8),
    ]
    differences = list(csv.DictReader((tmp_path / "out" / "subgroup_differences.csv").open(newline="")))
    assert float(differences[0]["difference"]) == pytest.approx(-1 / 8)
    assert (differences[0]["ci95_low"], differences[0]["verdict"]) == ("", "not shown")
    written = json.loads((tmp_path / "out" / "summary.json").read_text())["subgroups"]
    assert list(written["left_out"]) == ["age"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Siemens minus GE" in page
    assert "fewer than six patients in a group support nothing" in page
    assert_accessible(page)


def test_a_table_without_a_row_for_a_scan_is_refused_before_anything_is_measured(tmp_path):
    write_masks(tmp_path, {"a": labels(), "b": labels()})
    folders = {"predictions": tmp_path / "pred", "references": tmp_path / "ref", "out": tmp_path / "out"}
    groups = table(tmp_path, "case,site\na,A\n")
    with pytest.raises(PairingError, match="no row for 1 scan: b"):
        evaluate(EvaluateOptions(**folders, target=["liver=6"], groups=groups, workers=0))
    assert not (tmp_path / "out").exists()
