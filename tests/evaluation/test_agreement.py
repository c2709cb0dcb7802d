from __future__ import annotations

import json
import math

import numpy as np
import pytest
import scipy.stats

from frugalseg.evaluation.agreement import agree_in_volume
from frugalseg.evaluation.charts import draw_bland_altman
from frugalseg.evaluation.evaluate import evaluate
from frugalseg.options import EvaluateOptions
from tests.evaluation.blobs import LIVER, SHAPE, SPLEEN, labels, save, write_masks


def test_bias_and_limits_by_hand():
    found = agree_in_volume([1.0, -2.0, 4.0, math.nan])
    sd = ((0.0**2 + 3.0**2 + 3.0**2) / 2) ** 0.5
    assert (found.n, found.bias.ml, found.sd_ml) == (3, 1.0, sd)
    assert (found.lower.ml, found.upper.ml) == pytest.approx((1 - 1.959964 * sd, 1 + 1.959964 * sd))
    theirs = scipy.stats.ttest_1samp([1.0, -2.0, 4.0], 0).confidence_interval(0.95)
    assert found.bias.ci95 == pytest.approx((theirs.low, theirs.high))


@pytest.mark.parametrize("n", [2, 4, 12, 60])
def test_the_intervals_of_the_limits_hold_the_truth_as_often_as_they_say(n):
    rng = np.random.default_rng(n)
    held = []
    for _ in range(500):
        found = agree_in_volume(rng.normal(3.0, 10.0, n))
        for line, truth in ((found.lower, 3 - 19.59964), (found.bias, 3.0), (found.upper, 3 + 19.59964)):
            held.append(line.ci95[0] <= truth <= line.ci95[1])
    assert np.abs(np.reshape(held, (-1, 3)).mean(axis=0) - 0.95).max() < 0.035


def test_the_intervals_of_many_scans_are_those_of_bland_and_altman():
    values = np.random.default_rng(0).normal(0, 5, 400)
    found = agree_in_volume(values)
    half = 1.96 * math.sqrt(3 / 400) * found.sd_ml  # their approximation of 1986: variance 3 s² / n
    assert found.upper.ci95 == pytest.approx((found.upper.ml - half, found.upper.ml + half), rel=0.03)


def test_too_few_scans_and_scans_that_agree_have_no_interval():
    assert agree_in_volume([]).bias.ml is None
    one = agree_in_volume([2.0])
    assert (one.n, one.bias.ml, one.lower.ml, one.upper.ml) == (1, 2.0, None, None)
    same = agree_in_volume([2.0, 2.0])
    assert (same.bias.ml, same.bias.ci95, same.upper.ml, same.upper.ci95) == (2.0, None, 2.0, None)


def test_the_chart_shows_every_line_by_its_value():
    reference, prediction = np.array([10.0, 20.0, 30.0]), np.array([12.0, 19.0, 33.0])
    found = agree_in_volume(prediction - reference)
    svg = draw_bland_altman(reference, prediction, found, "liver: volume")
    for line, name in ((found.bias, "bias "), (found.lower, ""), (found.upper, "")):
        assert f"{name}{line.ml:+.1f}".replace("-", "−") in svg


def test_an_evaluation_has_the_agreement_of_each_organ(tmp_path):
    smaller = LIVER.copy()
    smaller[3] = False
    masks = {"a": labels(smaller), "b": labels(spleen=np.zeros(SHAPE, bool)), "c": labels()}
    write_masks(tmp_path, masks)
    save(tmp_path / "ref" / "c.nii.gz", labels(spleen=np.zeros(SHAPE, bool)))
    folders = {"predictions": tmp_path / "pred", "references": tmp_path / "ref", "out": tmp_path / "out"}
    summary = evaluate(EvaluateOptions(**folders, target=["liver=6", "spleen=1"], workers=0))
    ml = 16 / 1000
    liver, spleen = (summary.groups["all"].organs[organ].volume_agreement for organ in ("liver", "spleen"))
    assert liver.bias.ml == pytest.approx(-LIVER[3].sum() * ml / 3)
    assert spleen.n == 3
    assert spleen.bias.ml == pytest.approx(0.0)  # one missed, one invented
    assert spleen.sd_ml == pytest.approx(np.std([-SPLEEN.sum() * ml, SPLEEN.sum() * ml, 0], ddof=1))
    written = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert written["groups"]["all"]["organs"]["liver"]["volume_agreement"]["bias"]["ml"] == liver.bias.ml
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("<title>liver: volume</title>") == 1
