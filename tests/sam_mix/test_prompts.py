from __future__ import annotations

import numpy as np
import pytest
import torch

from frugalseg.sam_mix.prompts import (
    MAX_SHIFT,
    boxes_of_cams,
    boxes_of_masks,
    expand_boxes,
    paired_box_iou,
    resize_cams,
    stretch_to_unit_range,
    to_mask_prompts,
)


def cam(*pieces, size=16):
    """A map with pieces (rows, columns, value)."""
    plane = torch.zeros(1, 1, size, size)
    for rows, columns, value in pieces:
        plane[0, 0, slice(*rows), slice(*columns)] = value
    return plane


def test_the_box_is_around_the_largest_part_and_its_maxima_are_exclusive():
    boxes, found = boxes_of_cams(cam(((2, 4), (1, 3), 1.0), ((8, 12), (5, 10), 0.4), ((8, 12), (12, 14), 0.39)), 0.4)
    assert boxes[0, 0].tolist() == [5, 8, 10, 12]
    assert found.all()


def test_corners_join_parts():
    boxes, _ = boxes_of_cams(cam(((2, 4), (2, 4), 1.0), ((4, 6), (4, 6), 1.0), ((8, 11), (8, 10), 1.0)), 0.5)
    assert boxes[0, 0].tolist() == [2, 2, 6, 6]


def test_maps_below_the_threshold_are_marked_and_get_the_middle_half():
    boxes, found = boxes_of_cams(stretch_to_unit_range(torch.full((1, 2, 16, 16), 3.0)), 0.4)
    assert not found.any()
    assert boxes[0, 1].tolist() == [4, 4, 12, 12]


def test_maps_are_rescaled_one_by_one():
    cams = torch.stack([torch.tensor([[1.0, 3], [2, 5]]), torch.zeros(2, 2)])[None]
    assert stretch_to_unit_range(cams)[0, 0].flatten().tolist() == [0, 0.5, 0.25, 1]
    assert stretch_to_unit_range(cams)[0, 1].abs().max() == 0
    assert resize_cams(cams, 8).shape == (1, 2, 8, 8)


def test_boxes_of_masks():
    masks = torch.zeros(2, 10, 10, dtype=torch.bool)
    masks[0, 3:5, 2:9] = True
    boxes, found = boxes_of_masks(masks)
    assert boxes[0].tolist() == [2, 3, 9, 5]
    assert found.tolist() == [True, False]
    assert boxes_of_masks(masks[:0])[0].shape == (0, 4)


def test_boxes_expand_up_to_the_shift_and_stay_in_the_image():
    boxes = torch.tensor([[400.0, 300, 500, 450], [1, 2, 1023, 1020]])
    assert torch.equal(expand_boxes(boxes, 1024, torch.zeros(2, 4)), boxes)
    moved = expand_boxes(boxes, 1024, torch.ones(2, 4))
    assert moved[0].tolist() == [380, 280, 520, 470]
    assert moved[1].tolist() == [0, 0, 1024, 1024]
    assert pytest.approx(5) == MAX_SHIFT * 256


def test_mask_prompts_are_above_0_where_the_map_is_above_the_threshold():
    logits = to_mask_prompts(torch.tensor([0.0, 0.39, 0.41, 1.0]), 0.4)
    assert (logits > 0).tolist() == [False, False, True, True]


def test_overlap_of_boxes_is_monais():
    from monai.data.box_utils import box_iou

    draw = np.random.default_rng(0)
    low, extent = draw.uniform(0, 20, (2, 40, 2)), draw.uniform(0, 15, (2, 40, 2))
    one, other = (torch.tensor(np.hstack([a, a + s]), dtype=torch.float32) for a, s in zip(low, extent, strict=True))
    found = paired_box_iou(one, other)
    assert torch.allclose(found, box_iou(one, other).diagonal(), atol=1e-5)
    assert (found == 0).any()
    assert (found > 0.3).any()
    assert paired_box_iou(torch.zeros(1, 4), torch.zeros(1, 4)).tolist() == [0]


def test_a_faint_map_is_rescaled_with_a_bounded_range_and_bounded_gradients():
    plane = torch.rand(1, 1, 8, 8)

    def steepness(height):
        faint = (height * plane).requires_grad_()
        stretch_to_unit_range(faint, least=1e-3).square().sum().backward()
        return faint.grad.abs().max().item()

    assert torch.allclose(stretch_to_unit_range(0.5 * plane, least=1e-3), stretch_to_unit_range(plane), atol=1e-6)
    assert stretch_to_unit_range(1e-5 * plane, least=1e-3).max() < 0.011
    assert steepness(1e-9) <= steepness(1e-5) < 1e3
    assert steepness(1e-2) > 1  # so the bound is no zero
