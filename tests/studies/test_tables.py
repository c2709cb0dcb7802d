from __future__ import annotations

import dataclasses
import math
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frugalseg.evaluation.metric_table import DICE, HD95
from frugalseg.evaluation.statistics import holm, signed_rank
from frugalseg.studies.report import results as study
from frugalseg.studies.report.comparison import compare_with_baseline
from frugalseg.studies.report.conclusions import conclude
from frugalseg.studies.report.latex import escape_latex, to_latex
from frugalseg.studies.report.scores import Group, Scores
from frugalseg.studies.report.table import NO_VALUE, Section, Table, TableCell, rank_column
from frugalseg.studies.report.tables import build_tables, in_domain_table
from tests.studies.made_up import made_up_study

GAINS = {"scratch": 0.0, "best": 0.1, "moco": 0.2, "simclr": -0.05}


def dice(method, budget, draw, seed, patient):
    """Exact in print: 0.5 + gain, seeds ±0.01 and draws +0.02, patients 0.01 apart."""
    return 0.5 + GAINS[method] + 0.01 * (seed - 1) + 0.02 * draw + 0.01 * patient


def tables_of(results):
    return build_tables(Scores(results, resamples=200))


def test_a_baseline_of_one_backbone_is_compared_with_every_backbone():
    """For plans that compare kinds of network: `best` has the other backbone alone here."""
    results = made_up_study(dice, backbones=["unet", "litemedsam"])
    kept = {("scratch", "unet"), ("best", "litemedsam")}
    parts = {
        name: table[[pair in kept for pair in zip(table["method"], table["backbone"], strict=True)]]
        for name, table in (("trials", results.trials), ("cases", results.cases))
    }
    scores = Scores(dataclasses.replace(results, **parts), resamples=200)
    compared = compare_with_baseline(scores, scores.endpoints[0], DICE)
    assert [(c.group.backbone, c.runs) for c in compared] == [("litemedsam", 6)] * 2
    assert [c.difference.mean for c in compared] == pytest.approx([0.1, 0.1])


def texts(table, row):
    return [entry.text for section in table.sections for entries in section.rows for entry in entries[row : row + 1]]


def rows_of(table):
    return {entries[0].text: entries[1:] for section in table.sections for entries in section.rows}


def test_the_in_domain_table_holds_mean_and_spread_over_runs():
    (table,) = tables_of(made_up_study(dice)).in_domain
    rows = rows_of(table)
    run_means = [0.5 + 0.01 * (s - 1) + 0.02 * d + 0.035 for d in (0, 1) for s in (0, 1, 2)]
    assert rows["scratch"][0].text == f"{np.mean(run_means):.3f} ± {np.std(run_means, ddof=1):.3f}"
    assert rows["scratch"][1].text.startswith(f"{100 * (1 - np.mean(run_means)):.1f} ± ")
    assert [rows["best"][i].rank for i in range(4)] == ["best"] * 4
    assert [rows["scratch"][i].rank for i in range(4)] == ["second"] * 4
    assert table.spans == (("1 scan", 2), ("3 scans", 2))
    figures = table.data.set_index(["method", "budget", "metric"]).loc[("best", "3 scans", "dice")]
    assert figures["mean"] == pytest.approx(np.mean(run_means) + 0.1, abs=1e-12)
    assert (figures["runs"], figures["runs_planned"], figures["patients"]) == (6, 6, 8)
    assert figures["ci95_low"] < figures["mean"] < figures["ci95_high"]


def test_a_column_with_a_missing_run_says_so_and_ranks_nobody():
    def state(method, budget, draw, seed):
        return "failed" if (method, budget, seed) == ("best", "3 scans", 2) else "done"

    tables = tables_of(made_up_study(dice, state=state))
    rows = rows_of(tables.in_domain[0])
    assert rows["best"][2].note == "4 of 6 runs"
    assert rows["best"][2].text == f"{0.6 + 0.035 - 0.005 + 0.01:.3f} ± {np.std([-0.01, 0, 0.01, 0.02], ddof=1):.3f}"
    assert [rows[m][2].rank for m in rows] == ["", ""]
    assert [rows[m][0].rank for m in rows] == ["second", "best"]
    (gaps,) = tables.missing_runs
    assert texts(gaps, 3) == ["draw 0, seed 2", "draw 1, seed 2"]
    assert texts(gaps, 5) == ["CUDA out of memory"] * 2
    assert gaps.data["error"].str.contains("Traceback").all()


def test_a_group_without_runs_is_a_dash_not_a_number():
    tables = tables_of(made_up_study(dice, state=lambda m, *_: "waiting" if m == "best" else "done"))
    entry = rows_of(tables.in_domain[0])["best"][0]
    assert (entry.text, entry.note) == ("–", "0 of 6 runs")
    comparison = rows_of(tables.comparisons[0])["best"]
    assert [e.text for e in comparison] == ["–"] * 6 + ["0 of 6"]
    assert texts(tables.missing_runs[0], 3) == ["6 runs", "6 runs"]
    cost = rows_of(tables.cost[0])["best"]
    assert {e.text for e in cost[1:]} == {"–"}


def test_only_runs_that_both_have_are_compared():
    def state(method, budget, draw, seed):
        return "failed" if (method, seed) in {("scratch", 0), ("best", 2)} else "done"

    def unequal(method, budget, draw, seed, patient):
        return dice(method, budget, draw, seed, patient) + (0.1 * seed if method == "best" else 0)

    tables = tables_of(made_up_study(unequal, budgets=["1 scan"], state=state))
    row = rows_of(tables.comparisons[0])["best"]
    assert row[0].text == "+0.200"  # of seed 1 alone; all finished runs together would give +0.13
    assert row[-1].text == "2 of 6"
    assert rows_of(tables.in_domain[0])["best"][0].note == "4 of 6 runs"


def test_p_values_are_those_of_scores_averaged_over_runs_and_corrected_over_the_whole_table():
    noise = np.random.default_rng(0).normal(0, 0.05, size=(3, 2, 2, 3, 8))
    methods, budgets = ["scratch", "best", "simclr"], ["1 scan", "3 scans"]

    def noisy(method, budget, draw, seed, patient):
        return 0.7 + noise[methods.index(method), budgets.index(budget), draw, seed, patient]

    scores = Scores(made_up_study(noisy, methods=methods, budgets=budgets), resamples=200)
    comparisons = compare_with_baseline(scores, scores.endpoints[0], DICE)
    differences = (noise[1:] - noise[0]).mean(axis=(2, 3)).reshape(4, 8)
    expected = [signed_rank(d).p for d in differences]
    assert [c.rank.p for c in comparisons] == pytest.approx(expected)
    assert [c.p_holm for c in comparisons] == pytest.approx(holm(expected))
    assert [c.difference.mean for c in comparisons] == pytest.approx(differences.mean(axis=1))
    assert {c.family for c in comparisons} == {4}
    assert comparisons[0].least_p_holm == pytest.approx(4 * 2 / 2**8)


def test_too_few_patients_are_told_beside_the_p():
    five = (study.TestSet("held-out", True, True, 5),)
    table = tables_of(made_up_study(dice, tests=five)).comparisons[0]
    p = rows_of(table)["best"][3]
    assert p.text == "0.062"
    assert p.note == "cannot be below 0.0625"
    assert any("No corrected p in this table can be below" in note for note in table.notes)


def test_fewer_is_better_for_distances():
    def unequal(method, budget, draw, seed, patient):  # differences of 0.08 to 0.12: equal ones have no interval
        return dice(method, budget, draw, seed, patient) + 0.02 * (patient % 3 - 1) * (method == "best")

    nine = [study.TestSet("held-out", True, True, 9)]
    scores = Scores(made_up_study(unequal, tests=nine), resamples=200)
    dices, distances = (compare_with_baseline(scores, scores.endpoints[0], m) for m in (DICE, HD95))
    assert all(c.difference.mean == pytest.approx(0.1) and c.verdict == 1 for c in dices)
    assert all(c.difference.mean == pytest.approx(-10) and c.verdict == 1 for c in distances)


def test_several_scans_of_a_patient_count_once():
    results = made_up_study(dice, methods=["scratch"], draws=[0], seeds=[1], budgets=["all"])
    cases = results.cases.assign(patient=["a", "a", "a", "b", "c", "", "", float("nan")])
    scores = Scores(dataclasses.replace(results, cases=cases), resamples=200)
    endpoint, group = scores.endpoints[0], Group("scratch", "unet", "all")
    assert scores.count_patients(endpoint) == 6  # a, b, c, and three scans that name no patient
    assert scores.count_scans(endpoint) == 8
    assert scores.summarise(endpoint, group, DICE).mean == pytest.approx(
        0.5 + np.mean([0.01, 0.03, 0.04, 0.05, 0.06, 0.07])
    )
    assert "8 scans of 6 patients" in build_tables(scores).in_domain[0].title


def test_a_run_that_lacks_a_scan_is_a_gap_not_a_mean_over_fewer():
    results = made_up_study(dice)
    lost = (results.cases["method"] == "best") & (results.cases["seed"] == 0) & (results.cases["case"] == "held-out-00")
    tables = tables_of(dataclasses.replace(results, cases=results.cases[~lost]))
    assert rows_of(tables.in_domain[0])["best"][0].note == "4 of 6 runs"
    assert set(texts(tables.missing_runs[0], 4)) == {"incomplete"}
    assert texts(tables.missing_runs[0], 5)[0] == "held-out, liver: 7 of 8 scans measured"


def test_a_scan_that_no_run_measured_is_told():
    results = made_up_study(dice)
    cases = results.cases[results.cases["case"] != "held-out-00"]
    assert "(7 of 8 scans)" in tables_of(dataclasses.replace(results, cases=cases)).in_domain[0].title


def test_cells_that_are_not_done_any_more_bring_no_scores():
    results = made_up_study(dice)
    trials = results.trials.assign(state=np.where(results.trials["seed"] == 0, "running", "done"))
    assert rows_of(tables_of(dataclasses.replace(results, trials=trials)).in_domain[0])["best"][0].note == "4 of 6 runs"


def test_methods_that_use_test_references_do_not_change_other_p_values():
    alone = made_up_study(dice, methods=["scratch", "best"])
    beside = made_up_study(dice, methods=["scratch", "moco", "best"], uses_test_references=["moco"])
    compared = [
        {c.group: c for c in compare_with_baseline(scores, scores.endpoints[0], DICE)}
        for scores in (Scores(results, resamples=200) for results in (alone, beside))
    ]
    for group, comparison in compared[1].items():
        assert comparison.family == 2  # best at two budgets
        if group.method == "moco":
            assert comparison.rank.p < 0.05
            assert math.isnan(comparison.p_holm)
        else:
            assert comparison.p_holm == compared[0][group].p_holm


@pytest.mark.parametrize(
    ("column", "mark", "command"), [("transductive", "†", "dagger"), ("uses_test_references", "‡", "ddagger")]
)
def test_methods_that_had_more_are_marked_everywhere_and_take_no_place(column, mark, command):
    results = made_up_study(
        dice,
        methods=["scratch", "moco", "best"],
        tests=[study.TestSet("held-out", True, True, 8), study.TestSet("abroad", False, True, 8)],
        **{column: ["moco"]},
        state=lambda m, b, d, s: "failed" if (m, b, s) == ("moco", "3 scans", 0) else "done",
    )
    tables = tables_of(results)
    assert all(getattr(tables, field.name) for field in dataclasses.fields(tables))
    for table in tables.list_tables():
        names = {row[0].text for section in table.sections for row in section.rows}
        assert f"moco{mark}" in names
        assert "moco" not in names
        assert any(note.startswith(f"{mark} {column.replace('_', ' ')}") for note in table.notes)
        assert rf"moco$^\{command}$" in to_latex(table)
    first = {name: row[0].rank for name, row in rows_of(tables.in_domain[0]).items()}
    assert first == {"scratch": "second", f"moco{mark}": "", "best": "best"}  # moco has the highest mean
    figures = pd.concat([t.data for t in (*tables.in_domain, *tables.comparisons)])
    assert set(figures.loc[figures[column], "method"]) == {"moco"}


def test_nothing_in_millimetres_where_the_spacing_is_a_placeholder():
    results = made_up_study(dice, tests=[study.TestSet("lits", False, False, 8)])
    tables = tables_of(results)
    assert not tables.in_domain
    for table in tables.list_tables():
        assert not re.search(r"\bHD|\bmm\b|\bml\b|ASSD|NSD", " ".join([*table.columns, table.title]))
        assert not table.data.get("metric", pd.Series(["dice"])).str.contains("_mm|_ml|nsd").any()


def test_cross_domain_tables_have_a_group_of_columns_for_each_test_set():
    tests = [study.TestSet("msd", False, True, 8), study.TestSet("lits", False, False, 6)]
    tables = tables_of(made_up_study(dice, backbones=["unet", "resunet"], tests=tests)).cross_domain
    assert [t.name for t in tables] == ["cross-domain-liver-1-scan", "cross-domain-liver-3-scans"]
    assert tables[0].spans == (("msd", 2), ("lits", 1))
    assert tables[0].columns == ("Method", "Dice", "HD95, mm", "Dice")
    assert [s.heading for s in tables[0].sections] == ["unet", "resunet"]


def test_each_organ_has_tables_of_its_own_and_missed_organs_are_counted():
    def spleen_missed(method, budget, draw, seed, patient):
        return 0.0 if patient == 0 else float("nan") if patient == 1 else 0.5

    tables = tables_of(made_up_study(spleen_missed, organs=["liver", "spleen"]))
    assert [t.name for t in tables.in_domain] == ["in-domain-held-out-liver", "in-domain-held-out-spleen"]
    (first, *_) = tables.others[0].sections[0].rows
    assert first[-1].text == "6 of 42"  # 6 runs × 7 scans that hold it; the eighth is empty in both masks
    assert rows_of(tables.in_domain[0])["best"][0].text.startswith(f"{6 * 0.5 / 7:.3f} ± 0.000")


def test_costs_are_ranges_where_draws_differ():
    results = made_up_study(dice, methods=["scratch"], budgets=["3 scans"])
    trials = results.trials.assign(masks=[38, 38, 38, 41, 41, 41], finetune_minutes=[1, 2, 3, 1, 2, 3])
    (cost,) = tables_of(dataclasses.replace(results, trials=trials)).cost
    row = dict(zip(cost.columns[1:], (e.text for e in rows_of(cost)["scratch"]), strict=True))
    assert row["Masks"] == "38 – 41"
    assert row["from scans"] == "1"
    assert (row["Validation masks"], row["from validation scans"]) == ("80", "2")
    assert row["Fine-tuning, min"] == "2.0"
    assert row["Parameters"] == "1,962,337"
    assert row["Device"] == "cpu"


def test_methods_without_unlabelled_slices_are_named():
    results = made_up_study(dice, methods=["scratch", "best"])
    asked = results.trials["method"] == "best"
    trials = results.trials.assign(
        semi=np.where(asked, "self-training", "none"),
        unlabelled_slices=np.where(asked & (results.trials["budget"] == "1 scan"), 300, 0),
    )
    (cost,) = tables_of(dataclasses.replace(results, trials=trials)).cost
    assert cost.notes[-1] == (
        "Trained on masks alone, since no slice was left unlabelled: best at 3 scans (self-training)."
    )
    assert not any("left unlabelled" in note for note in tables_of(results).cost[0].notes)


def test_intervals_know_which_runs_share_a_draw():
    def by_draw(method, budget, draw, seed, patient):
        return 0.5 + 0.1 * draw * (method == "best")

    scores = Scores(made_up_study(by_draw, budgets=["5%"]))
    (endpoint,) = scores.endpoints
    best = scores.summarise(endpoint, Group("best", "unet", "5%"), DICE).ci95_runs
    assert best.kind == "t interval, 2 draws, 3 seeds, 8 patients"
    assert best.limits == (0.0, 1.0)
    (comparison,) = compare_with_baseline(scores, endpoint, DICE)
    half = 12.706 * 0.05  # Student's t of one degree of freedom times the standard error of two draws
    assert comparison.difference.ci95_runs.limits == pytest.approx((0.05 - half, 0.05 + half), abs=1e-4)


def test_every_printed_interval_says_its_kind_and_its_patients():
    def other_patients(method, budget, draw, seed, patient):  # one patient alone has a score of "few"
        return float("nan") if method == "few" and patient else dice("best", budget, draw, seed, patient)

    tables = tables_of(made_up_study(other_patients, methods=["scratch", "few"], draws=[0, 1]))
    labels, comparison = tables.labels[0], tables.comparisons[0]
    assert labels.notes[0].endswith("Unless stated otherwise: t interval, 8 patients.")
    assert rows_of(labels)["few"][0].note == "no interval: 1 patient"
    assert "no interval: 1 patient" in to_latex(labels)
    dices = labels.data[labels.data["metric"] == "dice"]
    assert set(dices["ci95_kind"]) == {"t interval, 8 patients", "no interval: 1 patient"}
    assert set(dices["ci95_runs_kind"]) == {"t interval, 2 draws, 3 seeds, 8 patients", "no interval: 1 patient"}
    assert rows_of(comparison)["few"][1].text == "no interval: 1 patient"
    assert {"ci95_kind", "ci95_runs_kind"} <= set(comparison.data)


def test_one_method_alone_has_no_comparison_and_one_run_no_spread():
    tables = tables_of(made_up_study(dice, methods=["scratch"], draws=[0], seeds=[0], budgets=["5%"]))
    assert not tables.comparisons
    assert not tables.missing_runs
    assert rows_of(tables.in_domain[0])["scratch"][0] == TableCell("0.525")


def test_names_that_give_one_file_name_are_told_apart():
    tests = [study.TestSet("a b", True, True, 6), study.TestSet("A/b", True, True, 6)]
    names = [t.name for t in tables_of(made_up_study(dice, tests=tests)).in_domain]
    assert names == ["in-domain-a-b-liver", "in-domain-A-b-liver-2"]


@pytest.mark.parametrize("results", [made_up_study(dice), made_up_study(dice, state=lambda *_: "waiting")])
def test_latex_is_whole(results):
    for table in tables_of(results).list_tables():
        text = to_latex(table)
        body = [line for line in text.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
        assert {len(re.findall(r"(?<!\\)&", line)) for line in body} == {len(table.columns) - 1}
        unescaped = text.replace(r"\\", "").replace(r"\{", "").replace(r"\}", "")
        assert unescaped.count("{") == unescaped.count("}")
        for command in (r"\toprule", r"\midrule", r"\bottomrule", r"\caption", r"\label"):
            assert command in text
        assert text.isascii()


def test_latex_marks_the_best_and_escapes_names():
    text = to_latex(
        Table(
            name="x",
            title="50% & more_of {it}",
            words=1,
            spans=(("a^b", 1),),
            columns=("Method", "Dice"),
            sections=(
                Section(
                    "",
                    (
                        (TableCell("$m$"), TableCell("0.9 ± 0.1", "[0.8, 1]", "best")),
                        (TableCell("[x"), TableCell("−1")),
                    ),
                ),
            ),
            notes=("a", "[b]"),
            data=pd.DataFrame(),
        )
    )
    assert r"50\% \& more\_of \{it\}" in text
    assert r"\$m\$ & \textbf{0.9 $\pm$ 0.1} {\scriptsize ([0.8, 1])} \\" in text
    assert r"{[x} & $-$1 \\" in text
    assert r"\cmidrule(lr){2-2}" in text
    assert escape_latex("a\nb") == "a b"


def test_a_table_refuses_rows_of_another_width():
    with pytest.raises(ValueError, match="rows of another width"):
        Table("x", "", 1, (), ("a", "b"), (Section("", ((TableCell("1"),),)),), (), pd.DataFrame())


@given(st.lists(st.floats(0, 1) | st.just(math.nan), max_size=8), st.sampled_from([-1, 1]))
def test_ranks_are_those_of_the_printed_values(values, sign):
    ranks = rank_column(values, 2, sign, [True] * len(values))
    shown = [round(v, 2) * sign for v in values if not math.isnan(v)]
    if len(set(shown)) < 2:
        assert not any(ranks)
    else:
        order = sorted(set(shown), reverse=True)
        for value, rank in zip(values, ranks, strict=True):
            place = None if math.isnan(value) else order.index(round(value, 2) * sign)
            assert rank == {0: "best", 1: "second"}.get(place, "")


def test_rows_that_do_not_compete_get_no_rank():
    assert rank_column([0.9, 0.8, 0.7], 3, 1, [False, True, True]) == ["", "best", "second"]
    assert rank_column([0.9, 0.8], 3, 0, [True, True]) == ["", ""]


def labelled_wholly(dice, methods=("scratch", "best"), untrained=()):
    """A made-up study of three draws that are one at 100 %, and of methods that are not trained."""
    results = made_up_study(dice, methods=methods, budgets=("1 scan", "100%"), draws=(0, 1, 2), seeds=(0, 1, 2, 3, 4))
    every, seeds = "0 1 2", "0 1 2 3 4"

    def once(frame):
        whole, alone = frame["budget"].eq("100%"), frame["method"].isin(untrained)
        return frame[~(whole & frame["draw"].ne(0)) & ~(alone & (frame["draw"].ne(0) | frame["seed"].ne(0)))]

    trials = once(results.trials).copy()
    trials.loc[trials["budget"].eq("100%") | trials["method"].isin(untrained), "draws"] = every
    trials.loc[trials["method"].isin(untrained), "seeds"] = seeds
    trials["trained"] = ~trials["method"].isin(untrained)
    return dataclasses.replace(results, trials=trials, cases=once(results.cases))


def noisy(method, budget, draw, seed, i):
    return 0.5 + 0.02 * i + 0.01 * seed + 0.03 * draw * (budget != "100%") + 0.1 * (method == "best")


def test_what_all_draws_share_is_as_many_runs_as_were_trained():
    scores = Scores(labelled_wholly(noisy), resamples=200)
    (endpoint,) = scores.endpoints
    counts = {(c.group.budget, c.runs, c.planned) for c in compare_with_baseline(scores, endpoint, DICE)}
    assert counts == {("1 scan", 15, 15), ("100%", 5, 5)}
    table = in_domain_table(scores, endpoint)
    assert dict(zip(table.data["budget"], table.data["runs_planned"], strict=True)) == {"1 scan": 15, "100%": 5}
    whole = scores.summarise(endpoint, Group("best", "unet", "100%"), DICE)
    by_seed = made_up_study(noisy, budgets=("100%",), draws=(0,), seeds=(0, 1, 2, 3, 4))
    alone = Scores(by_seed, resamples=200)
    assert whole == alone.summarise(alone.endpoints[0], Group("best", "unet", "100%"), DICE)
    assert any("At 100%, draws 0, 1, 2 select the same labels" in note for note in table.notes)


def test_what_is_not_trained_is_one_run_and_meets_every_run_of_the_baseline():
    scores = Scores(labelled_wholly(noisy, ("scratch", "one slice"), untrained=("one slice",)), resamples=200)
    (endpoint,) = scores.endpoints
    group = Group("one slice", "unet", "1 scan")
    assert (scores.count_finished(endpoint, group), scores.planned[group]) == (1, 1)
    assert math.isnan(scores.summarise(endpoint, group, DICE).sd)
    compared = {c.group.budget: c for c in compare_with_baseline(scores, endpoint, DICE)}
    assert (compared["1 scan"].runs, compared["1 scan"].planned) == (15, 15)
    assert (compared["100%"].runs, compared["100%"].planned) == (5, 5)
    # Its one result stands beside those of each draw and seed: what remains is how the baseline's runs differ.
    assert compared["1 scan"].difference.mean == pytest.approx(-(0.01 * 2 + 0.03 * 1))
    assert compared["1 scan"].difference.sd > 0


def test_a_method_that_does_not_stand_at_a_budget_is_a_dash_and_keeps_nobody_from_being_ranked():
    results = made_up_study(noisy, methods=("scratch", "best", "elsewhere"), budgets=("1 scan", "3 scans"))

    def without(frame):
        return frame[~(frame["method"].eq("elsewhere") & frame["budget"].eq("1 scan"))]

    scores = Scores(dataclasses.replace(results, trials=without(results.trials), cases=without(results.cases)), 200)
    (section,) = in_domain_table(scores, scores.endpoints[0]).sections
    by_name = {row[0].text: row for row in section.rows}
    assert by_name["elsewhere"][1].text == NO_VALUE
    assert by_name["best"][1].rank == "best"
    assert "2 budgets" in conclude(scores, scores.endpoints[0]).lead[0]
