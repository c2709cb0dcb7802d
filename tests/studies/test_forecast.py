"""The forecast of a study: a known law is recovered, and the interval covers it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from frugalseg.evaluation.statistics import Interval
from frugalseg.studies.report.forecast import Forecast, describe_forecasts, fit_curves, fit_slopes
from frugalseg.studies.report.report import render_study_report
from frugalseg.studies.report.scores import Scores
from frugalseg.studies.report.tables import build_tables
from tests.studies.made_up import made_up_study

BUDGETS = ("1 scans", "3 scans", "9 scans")
SLOPE = 0.02
"""Dice for e times the labels."""


def law(budget):
    return 0.8 + SLOPE * math.log(float(budget.split()[0]))


def noisy_dice(seed, draw_sd=0.005, patient_sd=0.02, slope_sd=0.004, noise=0.01):
    """Law + what a patient, a draw, a patient's slope and chance add, all independent."""
    rng = np.random.default_rng(seed)
    patients, slopes = rng.normal(0, patient_sd, 99), rng.normal(0, slope_sd, 99)
    draws = {}

    def dice(method, budget, draw, run, patient):
        logarithm = math.log(float(budget.split()[0]))
        more = draws.setdefault((draw, budget), rng.normal(0, draw_sd))
        return law(budget) + more + patients[patient] + slopes[patient] * logarithm + rng.normal(0, noise)

    return dice


def curves_of(dice, **given):
    return fit_curves(Scores(made_up_study(dice, budgets=BUDGETS, **given)))


def test_a_known_law_is_recovered_exactly():
    (curve,) = curves_of(lambda m, budget, d, s, i: law(budget) + 0.01 * i, methods=("scratch",))
    found = curve.forecast(9, 9)
    assert found.gain == pytest.approx(SLOPE * math.log(2))
    assert curve.forecast(3, 6).gain == pytest.approx(law("9 scans") - law("3 scans"))
    assert (curve.unit, curve.amounts) == ("scans", (1, 3, 9))


def test_slopes_are_those_of_a_library():
    rng = np.random.default_rng(0)
    scores = rng.uniform(size=(4, 2, 5))
    slopes = fit_slopes((1, 2, 5, 20), scores)
    for run in range(2):
        for patient in range(5):
            expected = np.polyfit(np.log([1, 2, 5, 20]), scores[:, run, patient], 1)[0]
            assert slopes[run, patient] == pytest.approx(expected)


def test_the_interval_covers_the_law_at_the_nominal_rate():
    """100 simulated studies of three draws, one seed, eight patients: 95 %, at least 90 % of so few."""
    covered, widths = 0, []
    for seed in range(100):
        (curve,) = curves_of(noisy_dice(seed), methods=("scratch",), draws=(0, 1, 2), seeds=(0,))
        limits = curve.forecast(9, 9).interval.limits
        covered += limits[0] <= SLOPE * math.log(2) <= limits[1]
        widths.append(limits[1] - limits[0])
    assert covered >= 90
    assert np.median(widths) < 0.03, "not by being endless"


def test_patients_are_paired_over_budgets():
    """That patients differ makes a forecast no less certain; that they gain differently does."""
    (one,) = curves_of(noisy_dice(0, patient_sd=0.0, slope_sd=0.0), methods=("scratch",))
    (same,) = curves_of(noisy_dice(0, patient_sd=0.3, slope_sd=0.0), methods=("scratch",))
    (other,) = curves_of(noisy_dice(0, patient_sd=0.0, slope_sd=0.1), methods=("scratch",))
    width = [np.ptp(curve.forecast(9, 9).interval.limits) for curve in (one, same, other)]
    assert width[1] == pytest.approx(width[0], rel=1e-6)
    assert width[2] > 3 * width[0]


def test_scans_and_slices_have_curves_of_their_own_and_one_budget_has_none():
    study = made_up_study(
        lambda m, budget, d, s, i: 0.5 + 0.001 * i, budgets=("5 slices", "20 slices", "1 scans"), methods=("scratch",)
    )
    assert [(curve.unit, curve.amounts) for curve in fit_curves(Scores(study))] == [("slices", (5, 20))]


def test_methods_with_more_information_have_no_forecast():
    study = made_up_study(
        lambda *_: 0.5,
        budgets=BUDGETS,
        methods=("scratch", "oracle", "other"),
        uses_test_references=("oracle",),
        external=("other",),
    )
    assert {curve.method for curve in fit_curves(Scores(study))} == {"scratch"}


def test_runs_missing_at_a_budget_are_left_out():
    study = made_up_study(
        noisy_dice(1),
        budgets=BUDGETS,
        methods=("scratch",),
        state=lambda method, budget, draw, seed: "failed" if (budget, draw) == ("9 scans", 1) else "done",
    )
    (curve,) = fit_curves(Scores(study))
    assert {draw for draw, _ in curve.runs} == {0}


def test_the_report_says_what_twice_the_labels_bring():
    scores = Scores(made_up_study(noisy_dice(2), budgets=BUDGETS, methods=("scratch", "best")))
    lines = describe_forecasts(scores)
    assert len(lines) == 2
    assert "9 more scans after 9: +0.0" in lines[0]
    page = render_study_report(scores, build_tables(scores))
    assert "What more labels are expected to bring" in page
    assert all(line.split(" (fitted")[0] in page for line in lines)


def test_a_forecast_is_printed_with_half_its_interval_or_the_reason_for_none():
    assert str(Forecast(0.008, Interval((-0.002, 0.018), "t", "4 patients"))) == "+0.008 ± 0.010"
    assert str(Forecast(-0.001, Interval(None, "", "1 patient"))) == "−0.001 (no interval: 1 patient)"
