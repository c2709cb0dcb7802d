from __future__ import annotations

import numpy as np
import pytest
import torch

from frugalseg.confidence.overlap import Overlap
from frugalseg.confidence.soft_mask import SoftMask, SoftSlices


def random_probabilities(slices=5, classes=2, size=12):
    logits = 3 * torch.randn(slices, classes + 1, size, size, generator=torch.Generator().manual_seed(0))
    return logits.softmax(dim=1)[:, 1:]


def test_overlap_with_probabilities_is_the_soft_dice_of_the_kept_mask_pixel_by_pixel():
    p = random_probabilities()
    soft = SoftMask.join([SoftSlices.of(p[:3]), SoftSlices.of(p[3:])], ["all", "largest"])
    for number, overlap in enumerate(soft.overlaps_with_probabilities(), start=1):
        shared = total = 0.0
        for z in range(len(p)):
            mask = [(y, x) for y in range(12) for x in range(12) if soft.classes[z, y, x] == number]
            inside = sum(float(p[z, number - 1, y, x]) for y, x in mask)
            everywhere = float(p[z, number - 1].sum())
            if mask:
                at = list(overlap.slices).index(z)
                assert overlap.dice_of_slices()[at] == pytest.approx(2 * inside / (len(mask) + everywhere), rel=2e-3)
            shared, total = shared + inside, total + len(mask) + everywhere
        assert overlap.dice_of_scan() == pytest.approx(2 * shared / total, rel=2e-3)


def test_post_processing_lowers_the_confidence_in_what_it_removed():
    """A second sure component that is not kept: the probabilities say that something is missing."""
    p = torch.zeros(1, 1, 8, 8)
    p[0, 0, :4, :4] = p[0, 0, 6:, 6:] = 0.9
    whole, kept = (
        SoftMask.join([SoftSlices.of(p)], [keep]).overlaps_with_probabilities()[0] for keep in ("all", "largest")
    )
    assert kept.mask[0] == 16
    assert kept.dice_of_scan() == pytest.approx(2 * 16 * 0.9 / (16 + 20 * 0.9), rel=1e-3)
    assert kept.dice_of_scan() < whole.dice_of_scan()


def test_the_expected_dice_of_true_probabilities_is_the_mean_dice_of_references_drawn_from_them():
    """What makes the overlap with probabilities an expected Dice before any calibration."""
    p = random_probabilities(slices=4, classes=1, size=32)
    soft = SoftMask.join([SoftSlices.of(p)], ["all"])
    (own,) = soft.overlaps_with_probabilities()
    draw = torch.Generator().manual_seed(1)
    references = [torch.bernoulli(p[:, 0], generator=draw).numpy().astype(np.uint8) for _ in range(100)]
    dice = [soft.overlaps_with(reference)[0].dice_of_scan() for reference in references]
    assert own.dice_of_scan() == pytest.approx(np.mean(dice), abs=0.005)


def test_overlap_between_masks_is_their_dice_in_the_slices_that_the_first_shows():
    a, b = np.zeros((4, 3, 3), bool), np.zeros((4, 3, 3), bool)
    a[1, :2], a[2, 0], b[2, :2], b[3] = True, True, True, True
    overlap = Overlap.between(a, b)
    assert list(overlap.slices) == [1, 2]
    assert overlap.dice_of_slices() == pytest.approx([0, 2 * 3 / 9])
    assert overlap.dice_of_scan() == pytest.approx(2 * 3 / (9 + 15))
    assert Overlap.between(b & False, b).dice_of_scan() == 0
