from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from frugalseg.imaging.square import Square

sides = st.integers(1, 90)
spacings = st.floats(0.25, 4)


@st.composite
def squares(draw: st.DrawFn) -> Square:
    spacing = (draw(spacings), draw(spacings))
    return Square.fit((draw(sides), draw(sides)), spacing, draw(st.sampled_from([32, 33, 64])))


def disc(height: int, width: int, row: float, column: float, radius: float) -> Tensor:
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return (((rows - row) ** 2 + (columns - column) ** 2) <= radius**2).to(torch.uint8)[None]


def centroid(plane: Tensor) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Centre of mass in pixels, where pixel k reaches from k to k + 1."""
    weights = plane.double().numpy()
    rows, columns = np.indices(weights.shape)
    total = weights.sum()
    return np.array([(weights * (rows + 0.5)).sum() / total, (weights * (columns + 0.5)).sum() / total])


def in_slice(
    square: Square, place: np.ndarray[tuple[int], np.dtype[np.float64]]
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """A place on the square, in pixels of the slice."""
    return (place - square.pads) * np.array(square.shape) / square.inner


@given(squares())
def test_the_longer_side_fills_the_square_and_the_aspect_is_kept(square: Square) -> None:
    mm = np.array(square.shape) * square.spacing
    assert square.inner[int(mm.argmax())] == square.size
    # Rows and columns are whole and padded evenly: at most one pixel (two of a sliver) off the exact aspect.
    exact = mm / mm.max() * square.size
    assert (np.abs(exact - square.inner) <= np.maximum(1, 2 - exact) + 1e-9).all()
    assert np.allclose(np.array(square.pixel_spacing) * square.inner, mm)


def test_pixel_spacing_of_plain_cases() -> None:
    assert Square.fit((512, 512), (0.8, 0.8), 256).pixel_spacing == pytest.approx((1.6, 1.6))
    square = Square.fit((100, 200), (1.0, 1.0), 64)
    assert square.inner == (32, 64)
    assert square.pads == (16, 0)
    # Non-square pixels: 100 rows of 2 mm are as long as 200 columns of 1 mm.
    assert Square.fit((100, 200), (2.0, 1.0), 64).inner == (64, 64)


@settings(deadline=None)
@given(squares())
def test_images_are_padded_with_0_and_nothing_else_is(square: Square) -> None:
    out = square.resize_images(torch.ones(2, *square.shape))
    top, left = square.pads
    assert out.shape == (2, square.size, square.size)
    inner = out[:, top : square.size - top, left : square.size - left]
    assert torch.allclose(inner, torch.ones_like(inner))
    assert out.sum().item() == pytest.approx(2 * square.inner[0] * square.inner[1], rel=1e-5)


@settings(deadline=None, max_examples=50)
@given(squares(), st.integers(0, 2**32 - 1))
def test_flips_commute(square: Square, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(2, *square.shape, generator=generator)
    labels = torch.randint(0, 5, (2, *square.shape), generator=generator, dtype=torch.uint8)
    for axis in (1, 2):
        assert torch.allclose(
            square.resize_images(images.flip(axis)), square.resize_images(images).flip(axis), atol=1e-5
        )
        # Only a middle row that falls between two has no fair choice.
        if square.inner[axis - 1] % 2 == 0 or square.shape[axis - 1] % 2 == 1:
            assert torch.equal(square.resize_labels(labels.flip(axis)), square.resize_labels(labels).flip(axis))
    values = torch.rand(2, 3, square.size, square.size, generator=generator)
    for axis in (2, 3):
        assert torch.allclose(square.restore(values.flip(axis)), square.restore(values).flip(axis), atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "spacing", "size"),
    [
        ((160, 160), (1.7, 1.7), 256),
        ((512, 512), (0.8, 0.8), 256),
        ((256, 320), (1.0, 1.0), 256),
        ((35, 51), (1.0, 1.0), 256),
        ((200, 180), (0.9, 1.4), 128),
        ((301, 77), (0.5, 2.0), 129),
    ],
)
def test_images_labels_and_the_way_back_are_aligned(
    shape: tuple[int, int], spacing: tuple[float, float], size: int
) -> None:
    square = Square.fit(shape, spacing, size)
    labels = disc(*shape, 0.6 * shape[0], 0.4 * shape[1], 0.2 * min(shape))
    truth = centroid(labels[0])
    pixel = np.maximum(1, np.array(shape) / square.inner)  # the coarser of the two grids, in pixels of the slice

    image = square.resize_images(labels.float())
    assert np.abs(in_slice(square, centroid(image[0])) - truth).max() < 0.02 * pixel.max()
    on_square = square.resize_labels(labels)
    assert on_square.dtype == torch.uint8
    assert set(on_square.unique().tolist()) == {0, 1}
    assert (np.abs(in_slice(square, centroid(on_square[0])) - truth) < 0.2 * pixel).all()

    back = square.restore(torch.stack([on_square.float(), 1 - on_square.float()], dim=1))
    assert back.shape == (1, 2, *shape)
    assert (np.abs(centroid(back[0, 0]) - truth) < 0.2 * pixel).all()
    mask = (back[:, 0] > 0.5).to(torch.uint8)
    overlap = 2 * (mask & labels).sum() / (mask.sum() + labels.sum())
    assert overlap > 0.95


def test_halving_shifts_labels_to_no_side() -> None:
    """PyTorch's nearest-exact rounds a centre between two pixels up: half a pixel of the slice off, every mask."""
    assert Square.fit((4, 4), (1, 1), 2).resize_labels(torch.arange(16).reshape(1, 4, 4)).tolist() == [
        [[5, 6], [9, 10]]
    ]
    square = Square.fit((512, 512), (1, 1), 256)
    labels = disc(512, 512, 255.5, 255.5, 100)
    assert centroid(square.resize_labels(labels)[0]) == pytest.approx([128, 128], abs=1e-9)
    shifted = F.interpolate(labels[None], (256, 256), mode="nearest-exact")[0, 0]
    assert centroid(shifted) == pytest.approx([127.75, 127.75], abs=0.05)


@given(sides, sides)
def test_nearest_is_pytorchs_where_no_centre_falls_between_two(height: int, width: int) -> None:
    square = Square.fit((height, width), (64 / height, 64 / width), 64)
    labels = torch.arange(height * width).reshape(1, height, width)
    expected = F.interpolate(labels[None].double(), (64, 64), mode="nearest-exact")[0].long()
    ours = square.resize_labels(labels)
    for side, axis in ((height, 1), (width, 2)):
        doubled = (2 * torch.arange(64) + 1) * side
        clear = torch.nonzero(doubled % 128 != 0).flatten()
        ours, expected = ours.index_select(axis, clear), expected.index_select(axis, clear)
    assert torch.equal(ours, expected)


def test_shrinking_images_averages_and_equal_size_changes_nothing() -> None:
    board = (torch.arange(256)[:, None] + torch.arange(256)) % 2
    shrunk = Square.fit((256, 256), (1, 1), 64).resize_images(board[None].float())
    assert (shrunk - 0.5).abs().max() < 0.05
    same = Square.fit((64, 64), (1, 1), 64)
    image = torch.rand(3, 64, 64)
    assert torch.equal(same.resize_images(image), image)
    assert torch.equal(same.restore(image[None])[0], image)


def test_probabilities_still_sum_to_one() -> None:
    square = Square.fit((90, 50), (1.3, 0.9), 64)
    full = square.restore(torch.rand(2, 4, 64, 64).softmax(dim=1))
    assert torch.allclose(full.sum(dim=1), torch.ones(2, 90, 50), atol=1e-5)


@pytest.mark.parametrize("shape", [(34, 2), (34, 1), (2, 34), (1, 34), (90, 3)])
def test_slivers_keep_their_rows_in_order(shape: tuple[int, int]) -> None:
    square = Square.fit(shape, (1, 1), 33)
    for axis in (1, 2):
        ramp = torch.linspace(0, 1, shape[axis - 1]).reshape([1, -1, 1] if axis == 1 else [1, 1, -1]).expand(1, *shape)
        out = square.resize_images(ramp.contiguous())
        top, left = square.pads
        inner = out[:, top : square.size - top, left : square.size - left]
        assert (inner.diff(dim=axis) >= -1e-6).all()
        assert inner.std(dim=3 - axis, unbiased=False).max() < 1e-6
        again = square.restore(out[:, None])[:, 0]
        assert torch.allclose(again, ramp, atol=0.6 * shape[axis - 1] / square.inner[axis - 1] + 0.1)


def test_wrong_shapes_are_refused() -> None:
    square = Square.fit((10, 20), (1, 1), 16)
    with pytest.raises(ValueError, match=r"\(1, 20, 10\) given"):
        square.resize_images(torch.zeros(1, 20, 10))
    with pytest.raises(ValueError, match="expected"):
        square.resize_labels(torch.zeros(1, 20, 10, dtype=torch.uint8))
    with pytest.raises(ValueError, match="expected"):
        square.restore(torch.zeros(1, 2, 10, 20))
    with pytest.raises(ValueError, match="above 0"):
        Square.fit((10, 20), (0, 1), 16)
