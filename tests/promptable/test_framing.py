from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from frugalseg.promptable.framing import SquareFrame
from frugalseg.promptable.protocol import Recipe

LITE = Recipe(size=64, mean=(0, 0, 0), std=(1, 1, 1), scale=1, stretch=True)
SAM = Recipe(size=64, mean=(120.0, 110.0, 100.0), std=(60.0, 50.0, 40.0), scale=255, stretch=False)
SQUARE = Recipe(size=64, mean=(0, 0, 0), std=(1, 1, 1), scale=1, stretch=False, fit="square")

shapes = st.tuples(st.integers(2, 150), st.integers(2, 150))


def box_of(mask: Tensor) -> Tensor:
    """x0, y0, x1, y1 of a mask (H, W), maxima exclusive."""
    rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
    return torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()


def ellipse(height: int, width: int) -> Tensor:
    """Logits (H, W): positive in an ellipse right and below of the middle."""
    rows, columns = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return 10 * (1 - ((rows / height - 0.6) / 0.3) ** 2 - ((columns / width - 0.55) / 0.35) ** 2)


@given(shapes)
def test_the_longer_side_fills_the_picture_and_pixels_stay_square(shape: tuple[int, int]) -> None:
    frame = SquareFrame.of(shape, LITE)
    assert max(frame.rows, frame.columns) == 64
    scale = 64 / max(shape)
    assert abs(frame.rows - max(shape[0] * scale, 2)) <= 0.5 + 1e-9
    assert abs(frame.columns - max(shape[1] * scale, 2)) <= 0.5 + 1e-9


def test_a_square_recipe_fills_the_picture_by_both_sides() -> None:
    frame = SquareFrame.of((30, 90), SQUARE)
    assert (frame.rows, frame.columns) == (64, 64)
    slices = torch.rand(1, 30, 90)
    assert (frame.to_model_input(slices, SQUARE)[:, :, -1] > 0).all()
    assert frame.boxes_to_model(torch.tensor([[9, 3, 90, 30]])).tolist() == [
        [pytest.approx(x) for x in (6.4, 6.4, 64, 64)]
    ]


def test_sam_normalises_8_bit_values_and_pads_with_zeros_afterwards() -> None:
    frame = SquareFrame.of((32, 64), SAM)
    pictures = frame.to_model_input(torch.full((2, 32, 64), 0.5), SAM)
    assert pictures.shape == (2, 3, 64, 64)
    for channel, (mean, std) in enumerate(zip(SAM.mean, SAM.std, strict=True)):
        # 0.5 is 127.5, which has no 8-bit level.
        assert torch.allclose(pictures[:, channel, :32], torch.tensor((128 - mean) / std))
    assert (pictures[:, :, 32:] == 0).all()


def test_stretching_takes_each_picture_to_the_full_range_before_padding() -> None:
    frame = SquareFrame.of((64, 32), LITE)
    slices = torch.stack([0.4 + 0.2 * torch.rand(64, 32), torch.full((64, 32), 0.7)])
    pictures = frame.to_model_input(slices, LITE)
    assert pictures[0, :, :, :32].min() == 0
    assert pictures[0, :, :, :32].max() == 1
    assert torch.equal(pictures[:, 0], pictures[:, 2])
    assert (pictures[:, :, :, 32:] == 0).all()
    assert (pictures[1] == 0).all(), "an empty slice has no range to stretch, and must not become NaN"


def test_continuous_grey_values_are_not_rounded() -> None:
    slices = torch.full((1, 64, 64), 0.5)
    continuous = Recipe(size=64, mean=(0, 0, 0), std=(1, 1, 1), scale=1, stretch=False, levels="continuous")
    assert (SquareFrame.of((64, 64), continuous).to_model_input(slices, continuous) == 0.5).all()
    assert SquareFrame.of((64, 64), SQUARE).to_model_input(slices, SQUARE)[0, 0, 0, 0].item() == pytest.approx(
        128 / 255
    )


@settings(deadline=None, max_examples=50)
@given(shapes, st.sampled_from([LITE, SQUARE]))
def test_a_constant_stays_constant_and_comes_back_in_the_slices_shape(shape: tuple[int, int], recipe: Recipe) -> None:
    frame = SquareFrame.of(shape, recipe)
    inside = frame.masks_to_model(torch.full((1, *shape), 3.0), outside=-7.0)
    assert inside.shape == (1, 64, 64)
    assert torch.allclose(inside[:, : frame.rows, : frame.columns], torch.tensor(3.0))
    assert (inside[:, frame.rows :] == -7).all()
    assert (inside[:, :, frame.columns :] == -7).all()
    for side in (16, 64, 256):
        back = frame.masks_to_slice(torch.full((2, side, side), 5.0))
        assert back.shape == (2, *shape)
        assert torch.allclose(back, torch.tensor(5.0))


@pytest.mark.parametrize("recipe", [LITE, SQUARE])
@pytest.mark.parametrize("shape", [(64, 64), (512, 512), (40, 40), (100, 50), (77, 130), (61, 64)])
@pytest.mark.parametrize("side", [64, 256])
def test_masks_boxes_and_the_way_back_agree(shape: tuple[int, int], recipe: Recipe, side: int) -> None:
    frame = SquareFrame.of(shape, recipe)
    logits = ellipse(*shape)
    inside = frame.masks_to_model(logits[None], outside=-10)
    pixel = max(1.0, shape[0] / frame.rows, shape[1] / frame.columns)
    there = frame.boxes_to_model(box_of(logits > 0)[None])[0]
    assert (there - box_of(inside[0] > 0)).abs().max() <= max(
        1.0, frame.rows / shape[0], frame.columns / shape[1]
    ) + 0.1

    # A model answers at its own resolution over the whole picture.
    answer = torch.nn.functional.interpolate(inside[None], (side, side), mode="bilinear", antialias=side < 64)[0]
    back = frame.masks_to_slice(answer)[0]
    assert back.shape == shape
    assert (box_of(back > 0) - box_of(logits > 0)).abs().max() <= pixel + 1
    overlap = 2 * ((back > 0) & (logits > 0)).sum() / ((back > 0).sum() + (logits > 0).sum())
    assert overlap > 0.97


def test_the_slices_border_within_a_pixel_of_the_logits_shifts_nothing() -> None:
    """45 of 64 rows are 11.25 rows of logits at a quarter of the resolution."""
    frame = SquareFrame.of((45, 64), LITE)
    ramp = (torch.arange(16) + 0.5)[:, None].expand(16, 16)[None] * 4
    back = frame.masks_to_slice(ramp.contiguous())[0, :, 0]
    inner = slice(2, 43)
    assert torch.allclose(back[inner], (torch.arange(45) + 0.5)[inner], atol=1e-4)


def test_no_masks_give_no_masks() -> None:
    frame = SquareFrame.of((100, 50), LITE)
    assert frame.masks_to_slice(torch.zeros(0, 16, 16)).shape == (0, 100, 50)
    assert frame.masks_to_model(torch.zeros(0, 100, 50)).shape == (0, 64, 64)
    assert frame.boxes_to_model(torch.zeros(0, 4)).shape == (0, 4)


def test_wrong_shapes_are_refused() -> None:
    frame = SquareFrame.of((10, 20), LITE)
    with pytest.raises(ValueError, match="expected"):
        frame.to_model_input(torch.zeros(1, 20, 10), LITE)
    with pytest.raises(ValueError, match="expected"):
        frame.masks_to_model(torch.zeros(10, 20))
    with pytest.raises(ValueError, match="expected"):
        frame.masks_to_slice(torch.zeros(1, 16, 32))
    with pytest.raises(ValueError, match="2 or more"):
        SquareFrame.of((1, 20), LITE)
