from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from frugalseg.refinement.boxes import find_pieces, label_parts_3d


def slice_with(*spots):
    """(40, 60) with rectangles (number, row, column, height, width)."""
    classes = np.zeros((40, 60), np.uint8)
    for number, row, column, height, width in spots:
        classes[row : row + height, column : column + width] = number
    return classes


def test_the_margin_is_in_millimetres_and_ends_at_the_border():
    classes = slice_with((1, 10, 20, 6, 9))
    (piece,) = find_pieces(3, classes, "component")
    assert (piece.z, piece.number, piece.area()) == (3, 1, 54)
    assert piece.box(0, (1, 1), classes.shape) == (20, 10, 29, 16)
    # 6 mm: 3 rows of 2 mm, 12 columns of 0.5 mm
    assert piece.box(6, (2.0, 0.5), classes.shape) == (8, 7, 41, 19)
    assert piece.box(100, (2.0, 2.0), classes.shape) == (0, 0, 60, 40)


def test_a_box_a_component_or_one_for_all():
    classes = slice_with((1, 2, 2, 5, 5), (1, 20, 30, 5, 5), (2, 30, 50, 4, 4))
    assert [(p.number, p.area()) for p in find_pieces(0, classes, "component")] == [(1, 25), (1, 25), (2, 16)]
    whole, other = find_pieces(0, classes, "slice")
    assert whole.box(0, (1, 1), classes.shape) == (2, 2, 35, 25)
    assert (whole.area(), other.number) == (50, 2)


def test_pixels_that_touch_by_a_corner_hang_together():
    classes = slice_with((1, 2, 2, 3, 3), (1, 5, 5, 3, 3))
    assert len(find_pieces(0, classes, "component")) == 1


def test_a_body_is_one_piece_where_it_hangs_together_in_3d():
    # A horseshoe: two legs in slice 0 that join in slice 1, and a separate part.
    volume = np.stack([slice_with((1, 5, 5, 4, 4), (1, 5, 30, 4, 4), (1, 30, 50, 3, 3)), slice_with((1, 5, 5, 4, 29))])
    parts = label_parts_3d(volume, 1)
    assert parts.max() == 2
    assert [p.area() for p in find_pieces(0, volume[0], "component")] == [16, 16, 9]
    assert sorted(p.area() for p in find_pieces(0, volume[0], "component-3d", parts[0])) == [9, 32]
    assert len(find_pieces(1, volume[1], "component-3d", parts[1])) == 1


def test_parts_of_two_organs_never_share_a_number():
    volume = np.zeros((3, 8, 8), np.uint8)
    volume[:, :4], volume[:, 4:] = 1, 2  # they touch
    parts = label_parts_3d(volume, 2)
    assert set(np.unique(parts[volume == 1])).isdisjoint(np.unique(parts[volume == 2]))
    # A class that fills its box entirely is still found.
    assert [p.area() for p in find_pieces(0, volume[0], "component-3d", parts[0])] == [32, 32]


def test_an_empty_slice_has_no_pieces_and_3d_components_are_required():
    assert find_pieces(0, np.zeros((5, 5), np.uint8), "component") == []
    with pytest.raises(ValueError, match="3D components"):
        find_pieces(0, np.ones((5, 5), np.uint8), "component-3d")


@given(
    arrays.arrays(np.uint8, (9, 11), elements=st.integers(0, 3)),
    st.sampled_from(["slice", "component", "component-3d"]),
)
def test_the_pieces_of_a_slice_are_its_classes_again(classes, how):
    parts = label_parts_3d(classes[None], 3)[0]
    rebuilt = np.zeros_like(classes)
    for piece in find_pieces(0, classes, how, parts):
        mask = piece.to_slice_mask(classes.shape)
        assert mask.any()
        assert not rebuilt[mask].any()
        rebuilt[mask] = piece.number
        x0, y0, x1, y1 = (int(side) for side in piece.box(0, (1, 1), classes.shape))
        assert mask[y0:y1, x0:x1].sum() == mask.sum()
    assert np.array_equal(rebuilt, classes)
