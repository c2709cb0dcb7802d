from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import SimpleITK
import torch

from frugalseg.evaluation.metric_table import METRICS, Place, build_policy_table, list_metrics
from frugalseg.evaluation.metrics import compare, organ_mask
from frugalseg.evaluation.policy import Outcome, Rule, format_policy
from frugalseg.evaluation.surface import SurfaceDistances
from tests.evaluation.blobs import SPACING, blob

AFFINE = np.diag([*SPACING, 1.0])
DISTANCES = ("hd_mm", "hd95_mm", "assd_mm")
MEASURED = [metric.key for metric in list_metrics(Place.SUMMARY)]


@pytest.fixture(scope="module")
def monai_metrics():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("monai.metrics")


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("seed", range(4))
def test_distances_equal_monais(monai_metrics, seed):
    reference, prediction = blob(seed), blob(seed + 100, share=0.1)
    ours = compare(reference, prediction, AFFINE, tolerance=2.0)
    a, b = (torch.from_numpy(m)[None, None].float() for m in (reference, prediction))
    spacing = {"include_background": True, "spacing": list(SPACING)}
    hd = monai_metrics.compute_hausdorff_distance
    assert ours.values["hd_mm"] == pytest.approx(float(hd(b, a, **spacing)), rel=1e-5)
    assert ours.values["hd95_mm"] == pytest.approx(float(hd(b, a, percentile=95, **spacing)), rel=1e-5)
    assd = monai_metrics.compute_average_surface_distance(b, a, symmetric=True, **spacing)
    assert ours.values["assd_mm"] == pytest.approx(float(assd), rel=1e-5)
    nsd = monai_metrics.compute_surface_dice(b, a, [2.0], **spacing)
    assert ours.values["nsd"] == pytest.approx(float(nsd), rel=1e-5)


def ellipsoid(centre, radii, shape=(40, 36, 24)):
    grid = np.meshgrid(*(np.arange(n) * s for n, s in zip(shape, SPACING, strict=True)), indexing="ij")
    return sum(((g - c) / r) ** 2 for g, c, r in zip(grid, centre, radii, strict=True)) < 1


def test_overlap_and_hausdorff_equal_simpleitks():
    # On convex bodies only: SimpleITK measures between whole masks, not between surfaces.
    reference, prediction = ellipsoid((18, 25, 36), (9, 14, 20)), ellipsoid((21, 22, 30), (10, 12, 18))
    images = []
    for mask in (reference, prediction):
        image = SimpleITK.GetImageFromArray(mask.T.astype(np.uint8))
        image.SetSpacing(SPACING)
        images.append(image)
    overlap, hausdorff = SimpleITK.LabelOverlapMeasuresImageFilter(), SimpleITK.HausdorffDistanceImageFilter()
    overlap.Execute(*images)
    hausdorff.Execute(*images)
    ours = compare(reference, prediction, AFFINE)
    assert ours.values["dice"] == pytest.approx(overlap.GetDiceCoefficient(1), rel=1e-9)
    assert ours.values["hd_mm"] == pytest.approx(hausdorff.GetHausdorffDistance(), rel=1e-5)


def test_volumes_are_in_ml_and_signed():
    reference, prediction = np.zeros((20, 20, 20), bool), np.zeros((20, 20, 20), bool)
    reference[:10, :10, :10] = True
    prediction[:10, :10, 2:14] = True
    shear = np.array([[1, 0.5, 0, 9], [0, 1, 0, 9], [0, 0, 2.0, 9], [0, 0, 0, 1]])
    ours = compare(reference, prediction, shear)
    assert ours.values["volume_reference_ml"] == pytest.approx(2.0)
    assert ours.values["volume_prediction_ml"] == pytest.approx(2.4)
    assert ours.values["volume_error_ml"] == pytest.approx(0.4)
    assert ours.values["volume_error_relative"] == pytest.approx(0.2)
    assert ours.values["false_positive_ml"] == pytest.approx(0.8)


def test_a_perfect_mask_is_perfect():
    ours = compare(blob(3), blob(3).copy(), AFFINE)
    assert (ours.outcome, ours.values["dice"], ours.values["nsd"]) == (Outcome.BOTH, 1.0, 1.0)
    assert [ours.values[name] for name in DISTANCES] == [0.0, 0.0, 0.0]


def test_masks_that_do_not_touch_have_dice_zero_and_real_distances():
    a, b = np.zeros((9, 9, 9), bool), np.zeros((9, 9, 9), bool)
    a[1, 1, 1] = b[1, 1, 5] = True
    ours = compare(a, b, np.diag([1.0, 1.0, 2.0, 1.0]))
    assert (ours.values["dice"], ours.values["nsd"], ours.values["hd95_mm"]) == (0.0, 0.0, 8.0)


def test_a_missed_organ_costs_the_diagonal_and_is_never_skipped():
    ours = compare(blob(0), np.zeros_like(blob(0)), AFFINE)
    diagonal = math.hypot(*(n * s for n, s in zip(blob(0).shape, SPACING, strict=True)))
    assert ours.outcome is Outcome.MISSED
    assert (ours.values["dice"], ours.values["nsd"], ours.values["volume_error_relative"]) == (0.0, 0.0, -1.0)
    assert [ours.values[name] for name in DISTANCES] == pytest.approx([diagonal] * 3)


def test_an_organ_found_where_there_is_none_has_dice_zero_a_volume_and_no_distances():
    ours = compare(np.zeros_like(blob(0)), blob(0), AFFINE)
    assert ours.outcome is Outcome.FALSE_POSITIVE
    assert (ours.values["dice"], ours.values["nsd"]) == (0.0, 0.0)
    assert ours.values["false_positive_ml"] == pytest.approx(blob(0).sum() * np.prod(SPACING) / 1000)
    assert all(math.isnan(ours.values[name]) for name in (*DISTANCES, "volume_error_relative"))


def test_an_organ_in_neither_mask_is_left_out():
    nothing = np.zeros((5, 5, 5), bool)
    ours = compare(nothing, nothing, AFFINE)
    assert ours.outcome is Outcome.BOTH_EMPTY
    assert all(math.isnan(ours.values[name]) for name in MEASURED)


def test_the_policy_covers_every_outcome_and_metric_and_is_plain_data():
    assert set(build_policy_table()) == {outcome.value for outcome in Outcome}
    assert all(list(rules) == MEASURED for rules in build_policy_table().values())
    assert build_policy_table()["missed"]["hd95_mm"] == "image diagonal in mm"
    assert "missed: dice 0, distances image diagonal" in format_policy()


@pytest.mark.parametrize("key", METRICS)
def test_values_lie_in_the_metric_s_range_or_are_left_out(key):
    metric, nothing = METRICS[key], np.zeros_like(blob(0))
    low, high = metric.scale
    for pair in ((blob(0), blob(1)), (blob(0), nothing), (nothing, blob(0)), (nothing, nothing)):
        ours = compare(*pair, AFFINE)
        value = ours.values[key]
        assert math.isnan(value) if metric.rules.rule_for(ours.outcome) is Rule.LEFT_OUT else low <= value <= high


def test_surfaces_are_searched_once_and_only_where_there_are_two(monkeypatch):
    searches, between = [], SurfaceDistances.between
    monkeypatch.setattr(SurfaceDistances, "between", lambda *given: searches.append(1) or between(*given))
    compare(blob(0), np.zeros_like(blob(0)), AFFINE)
    assert not searches
    compare(blob(0), blob(1), AFFINE)
    assert len(searches) == 1


def test_cropping_changes_nothing():
    a, b = blob(5), blob(6)
    wide = [np.pad(m, ((30, 7), (0, 12), (4, 4))) for m in (a, b)]
    assert compare(a, b, AFFINE) == compare(*wide, AFFINE)


def test_masks_of_other_types_or_shapes_are_refused():
    with pytest.raises(ValueError, match="bool"):
        compare(blob(0).astype(int), blob(0), AFFINE)
    with pytest.raises(ValueError, match="shape"):
        compare(blob(0), blob(0)[1:], AFFINE)


def test_an_organ_may_have_several_values():
    labels = np.array([0, 1, 2, 6, -3])
    assert organ_mask(labels, (1, 6, -3)).tolist() == [False, True, False, True, True]
