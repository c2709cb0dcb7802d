"""Which slices are annotated, and which passes start there."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frugalseg.errors import ScanError
from frugalseg.propagation.passes import find_annotated_slices, find_neighbours, format_ranges, plan_passes


def test_passes_from_each_annotated_slice_to_the_next():
    assert [(one.start, one.order) for one in plan_passes([3, 6], 1, 8)] == [
        (3, (4, 5)),
        (3, (2, 1)),
        (6, (7, 8)),
        (6, (5, 4)),
    ]
    assert plan_passes([0], 0, 0) == []
    assert [one.order for one in plan_passes([0, 1], 0, 2)] == [(2,)]
    assert find_neighbours(5, [3, 6]) == [3, 6]
    assert find_neighbours(1, [3, 6]) == [3]
    assert find_neighbours(9, [3, 6]) == [6]


@given(st.sets(st.integers(0, 30), min_size=1), st.integers(0, 30))
def test_every_slice_is_reached_from_its_annotated_neighbours_and_no_others(annotated, last):
    annotated = sorted(a for a in annotated if a <= last) or [0]
    reached: dict[int, list[int]] = {}
    for one in plan_passes(annotated, 0, last):
        steps = [abs(b - a) for a, b in zip((one.start, *one.order), one.order, strict=False)]
        assert set(steps) == {1}
        for z in one.order:
            reached.setdefault(z, []).append(one.start)
    assert set(reached) == set(range(last + 1)) - set(annotated)
    assert all(sorted(starts) == find_neighbours(z, annotated) for z, starts in reached.items())


def test_which_slices_are_annotated():
    meant = np.zeros((10, 4, 4), bool)
    meant[[3, 6], 1, 1] = True
    assert find_annotated_slices(meant, [], [], "a") == [3, 6]
    assert find_annotated_slices(meant, [6], [], "a") == [6]
    assert find_annotated_slices(meant[3:4], [], [], "a") == [0]  # a volume of one slice
    assert find_annotated_slices(meant, [], [3, 8], "a") == [3, 6]


@pytest.mark.parametrize(
    ("foreground", "named", "span", "said"),
    [
        ([], [], [], "a: the annotation holds no foreground"),
        ([3], [4], [], "slice 4 holds no foreground; slices with some: 3"),
        ([3], [12], [], "there is no slice 12, only slices 0…9"),
        ([3], [], [4, 8], "outside --slice-range 4,8"),
        ([3], [], [2, 10], "there is no slice 10"),
        (list(range(10)), [], [], "all 10 slices hold foreground"),
    ],
)
def test_annotations_that_cannot_be_propagated(foreground, named, span, said):
    meant = np.zeros((10, 4, 4), bool)
    meant[foreground, 1, 1] = True
    with pytest.raises(ScanError, match=said):
        find_annotated_slices(meant, named, span, "a")


def test_slices_in_words():
    assert format_ranges([5, 3, 4, 9, 11, 12]) == "3–5, 9, 11–12"
    assert format_ranges([]) == ""
