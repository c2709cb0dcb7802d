from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics import compute_panoptic_quality
from scipy import ndimage

from frugalseg.errors import OptionError
from frugalseg.evaluation.evaluate import evaluate
from frugalseg.evaluation.lesions import compare_lesions
from frugalseg.options import EvaluateOptions
from tests.evaluation.blobs import SHAPE, blob, box, labels, save


def neighbours(voxel, voxels):
    return {v for v in voxels if v != voxel and max(abs(a - b) for a, b in zip(v, voxel, strict=True)) <= 1}


def lesions_by_walking(mask):
    """The connected parts of a mask as sets of voxels."""
    left, found = set(map(tuple, np.argwhere(mask))), []
    while left:
        part, border = set(), {left.pop()}
        while border:
            part |= border
            border = {n for voxel in border for n in neighbours(voxel, left)}
            left -= border
        found.append(part)
    return found


def most_overlap(left, right, threshold):
    """The largest sum of IoU of a one-to-one assignment and its number of pairs, tried one by one."""
    if not left:
        return 0.0, 0
    best = most_overlap(left[1:], right, threshold)
    for i, other in enumerate(right):
        iou = len(left[0] & other) / len(left[0] | other)
        if iou > threshold:
            total, count = most_overlap(left[1:], right[:i] + right[i + 1 :], threshold)
            best = max(best, (iou + total, count + 1))
    return best


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.7]))
def test_counts_equal_those_of_a_walk_over_all_voxels(seed, threshold):
    rng = np.random.default_rng(seed)
    seen = rng.random((5, 5, 3)) < 0.12
    predicted = seen ^ (rng.random(seen.shape) < 0.06)
    mine = compare_lesions(seen, predicted, threshold)
    left, right = lesions_by_walking(seen), lesions_by_walking(predicted)
    assert (mine.lesions_reference, mine.lesions_prediction) == (len(left), len(right))
    assert mine.lesions_found == most_overlap(left, right, threshold)[1]


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.5, 0.6])
def test_f1_is_monai_s_recognition_quality(threshold):
    shape = (24, 20, 12)
    seen, predicted = blob(1, shape, 0.05), blob(1, shape, 0.08) & ~blob(2, shape, 0.3)
    numbered = [torch.tensor(ndimage.label(mask, np.ones((3, 3, 3)))[0]) for mask in (predicted, seen)]
    theirs = compute_panoptic_quality(*numbered, metric_name="rq", match_iou_threshold=threshold, smooth_numerator=0)
    mine = compare_lesions(seen, predicted, threshold)
    assert 0 < mine.lesion_f1 < 1
    assert mine.lesion_f1 == pytest.approx(float(theirs))


def test_a_lesion_in_two_pieces_is_found_once_and_one_piece_is_false():
    whole = box((2, 2, 2), (12, 6, 6))
    pieces = whole.copy()
    pieces[8] = False
    assert figures(compare_lesions(whole, pieces, 0.5)) == (2 / 3, 1.0, 0.5, 1)
    assert figures(compare_lesions(pieces, whole, 0.5)) == (2 / 3, 0.5, 1.0, 0)


def test_an_iou_of_exactly_the_threshold_is_not_above_it():
    half = box((2, 2, 2), (4, 4, 4))
    assert compare_lesions(box((2, 2, 2), (6, 4, 4)), half, 0.5).lesions_found == 0
    assert compare_lesions(box((2, 2, 2), (6, 4, 4)), half, 0.49).lesions_found == 1


def figures(one):
    return one.lesion_f1, one.lesion_sensitivity, one.lesion_precision, one.lesion_false_positives


def test_empty_masks():
    nothing, two = np.zeros(SHAPE, bool), box((1, 1, 1), (3, 3, 3)) | box((8, 8, 5), (9, 9, 6))
    nan = math.nan
    assert figures(compare_lesions(nothing, nothing, 0.5)) == pytest.approx((nan, nan, nan, 0), nan_ok=True)
    assert figures(compare_lesions(nothing, two, 0.5)) == pytest.approx((0, nan, 0, 2), nan_ok=True)
    assert figures(compare_lesions(two, nothing, 0.5)) == pytest.approx((0, 0, nan, 0), nan_ok=True)


def test_noise_of_thousands_of_parts_needs_no_table_of_all_pairs():
    rng = np.random.default_rng(0)
    seen = np.zeros((80, 80, 80), bool)
    seen[::2, ::2, ::2] = rng.random((40, 40, 40)) < 0.5
    predicted = seen & (rng.random(seen.shape) < 0.002)
    mine = compare_lesions(seen, predicted, 0.1)
    assert mine.lesions_reference == np.count_nonzero(seen) > 20_000
    assert mine.lesions_found == mine.lesions_prediction == np.count_nonzero(predicted)


def test_an_evaluation_counts_all_lesions_and_the_mean_over_scans(tmp_path, capsys):
    small, large, false = (box((x, 2, 2), (x + 2, 4, 4)) for x in (1, 8, 15))
    scans = {"a": (small | large, small), "b": (small, small | large | false), "c": (small, small)}
    scans["d"] = (np.zeros(SHAPE, bool), np.zeros(SHAPE, bool))
    for case, masks in scans.items():
        for folder, mask in zip(("ref", "pred"), masks, strict=True):
            save(tmp_path / folder / f"{case}.nii.gz", mask.astype(np.uint8))
    folders = {"predictions": tmp_path / "pred", "references": tmp_path / "ref", "out": tmp_path / "out"}
    summary = evaluate(EvaluateOptions(**folders, target=["tumour=1"], lesions=True, workers=0))
    tumour = summary.groups["all"].organs["tumour"]
    pool = tumour.lesions_pooled
    assert (pool.reference, pool.prediction, pool.found, pool.false_positives_per_scan) == (4, 5, 3, 0.5)
    assert (pool.f1, pool.sensitivity, pool.precision) == (6 / 9, 3 / 4, 3 / 5)
    f1 = tumour.lesions_mean_over_scans["lesion_f1"]
    assert (f1.mean, f1.n, f1.left_out) == (pytest.approx((2 / 3 + 2 / 4 + 1) / 3), 3, 1)
    assert "lesions of 4 scans, all together" in capsys.readouterr().out
    rows = json.loads((tmp_path / "out" / "cases.json").read_text())["cases"]
    assert [row["lesions_found"] for row in rows] == [1, 1, 1, 0]
    assert "2 of 2" not in (page := (tmp_path / "out" / "report.html").read_text())
    assert "1 of 2" in page
    assert "Lesions found" in page


def test_without_the_option_there_are_none(tmp_path):
    save(tmp_path / "ref" / "a.nii.gz", labels())
    save(tmp_path / "pred" / "a.nii.gz", labels())
    folders = {"predictions": tmp_path / "pred", "references": tmp_path / "ref", "out": tmp_path / "out"}
    evaluate(EvaluateOptions(**folders, target=["liver=6"], workers=0, report=False))
    assert "lesion" not in (tmp_path / "out" / "cases.csv").read_text()


@pytest.mark.parametrize("value", [-0.1, 1.0, math.nan])
def test_a_threshold_that_is_no_iou_is_refused(tmp_path, value):
    with pytest.raises(OptionError, match="--lesion-iou .* is not in 0…1"):
        EvaluateOptions(predictions=tmp_path, references=tmp_path, out=tmp_path, lesion_iou=value)
