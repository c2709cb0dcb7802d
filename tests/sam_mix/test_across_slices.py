"""An organ followed from slice to slice: synthetic scans, and a decoder that knows the organ."""

from __future__ import annotations

import numpy as np
import pytest

from frugalseg.sam_mix import across_slices
from frugalseg.sam_mix.across_slices import Evidence, choose_starts, follow_organ

SIZE, DEPTH = 32, 20


def draw(*blocks):
    """Masks (Z, S, S) of blocks, each z0, z1, y0, y1, x0, x1."""
    masks = np.zeros((DEPTH, SIZE, SIZE), dtype=bool)
    for z0, z1, y0, y1, x0, x1 in blocks:
        masks[z0:z1, y0:y1, x0:x1] = True
    return masks


def evidence(objects, grey=None, present=None, asked=None):
    """Of a decoder that returns what it finds of `objects` in the box around each component."""

    def decode(z, components):
        logits = np.full(components.shape, -9, np.float32)
        for found, component in zip(logits, components, strict=True):
            rows, columns = (np.flatnonzero(component.any(axis=axis)) for axis in (1, 0))
            box = slice(max(0, rows[0] - 2), rows[-1] + 3), slice(max(0, columns[0] - 2), columns[-1] + 3)
            found[box][objects[z][box]] = 9
            if asked is not None:
                asked.append((z, rows[0], columns[0]))
        return logits, np.full(len(components), 0.75, np.float32)

    grey = np.where(objects, 0.7, 0.2).astype(np.float32) if grey is None else grey
    return Evidence(grey, np.ones(DEPTH, np.float32) if present is None else present, decode)


def followed(masks, confidence, of):
    found = np.zeros_like(masks)
    for z, plane in follow_organ(masks, confidence, of).items():
        found[z] = plane.logits > 0
    return found


BRIDGED = draw((2, 18, 4, 14, 4, 14), (4, 18, 4, 14, 20, 28), (12, 18, 4, 14, 4, 28))
"""Two parts that are connected from slice 12."""


def confident_at(z):
    confidence = np.full(DEPTH, 0.5, np.float32)
    confidence[z] = 0.9
    return confidence


def test_an_organ_is_found_in_all_slices_from_one_and_both_of_its_parts():
    asked = []
    first = draw((12, 16, 4, 14, 4, 28))
    found = followed(first, confident_at(14), evidence(BRIDGED, asked=asked))
    assert np.array_equal(found, BRIDGED)
    boxes = {z: sum(1 for each, *_ in set(asked) if each == z) for z, *_ in asked}
    assert (boxes[13], boxes[8], boxes[3]) == (1, 2, 2)


def test_only_the_largest_component_of_the_first_masks_is_followed():
    other = draw((2, 8, 22, 28, 22, 28))
    organ = draw((6, 16, 4, 14, 4, 14))
    found = followed(organ | other, confident_at(4), evidence(organ | other))
    assert np.array_equal(found, organ)


def test_nothing_without_first_masks():
    assert follow_organ(draw(), confident_at(3), evidence(BRIDGED)) == {}


def test_another_organ_beyond_the_end_is_told_by_its_grey_values():
    organ, heart = draw((2, 12, 8, 20, 8, 20)), draw((12, 20, 8, 20, 8, 20))
    bone = draw((2, 20, 22, 26, 8, 20))  # in the surroundings
    alike = np.where(organ | heart, 0.6, np.where(bone, 0.95, 0.2)).astype(np.float32)
    brighter = np.where(organ, 0.6, np.where(heart | bone, 0.95, 0.2)).astype(np.float32)
    ends = [
        np.flatnonzero(followed(organ, confident_at(6), evidence(organ | heart, grey)).any(axis=(1, 2)))[-1]
        for grey in (alike, brighter)
    ]
    assert ends == [19, 11]


@pytest.mark.parametrize(("side", "last"), [(12, 11), (3, 15)])
def test_an_organ_ends_where_it_would_be_large_and_the_classifier_does_not_see_it(side, last):
    organ = draw((2, 12, 8, 20, 8, 20), (12, 16, 8, 8 + side, 8, 20))
    present = np.where(np.arange(DEPTH) < 12, 1.0, 0.1).astype(np.float32)
    found = followed(draw((2, 12, 8, 20, 8, 20)), confident_at(6), evidence(organ, present=present))
    assert np.flatnonzero(found.any(axis=(1, 2)))[-1] == last


def test_a_mask_that_does_not_overlap_enough_is_another_object():
    organ = draw((2, 10, 4, 14, 4, 14))
    grown = organ | draw((10, 18, 4, 30, 4, 30))

    def jump(z, components):
        return np.where(grown[z], 9, -9).astype(np.float32)[None].repeat(len(components), 0), np.ones(len(components))

    of = Evidence(np.where(grown, 0.7, 0.2).astype(np.float32), np.ones(DEPTH, np.float32), jump)
    assert np.array_equal(followed(organ, confident_at(6), of), organ)


def test_starts_are_confident_large_and_apart():
    areas = (0, 4, 8, 10, 10, 10, 10, 10, 10, 10, 10, 10, 9, 9, 9, 9, 9, 9, 9, 2)
    masks = np.zeros((DEPTH, SIZE, SIZE), dtype=bool)
    for z, area in enumerate(areas):
        masks[z, :area, :10] = True
    confidence = np.linspace(0.2, 0.4, DEPTH).astype(np.float32)
    confidence[[0, 1, 5, 6, 10]] = 0.99, 0.98, 0.9, 0.89, 0.8
    assert choose_starts(masks, confidence) == [5, 10, 18]


def test_the_masks_of_several_starts_are_averaged(monkeypatch):
    """Two of three starts find the organ beyond slice 11, so it is there; one of three is not enough."""
    organ = draw((2, 18, 8, 20, 8, 20))
    monkeypatch.setattr(across_slices, "choose_starts", lambda *_: [4, 8, 14])
    blocked = {"by": 1}

    def decode(z, components):
        calls.append(z)
        passes = calls.count(12) > blocked["by"] or z != 12
        logits = np.where(organ[z] & passes, 9, -9).astype(np.float32)
        return logits[None].repeat(len(components), 0), np.ones(len(components), np.float32)

    ends = []
    for blocked["by"] in (1, 2):
        calls = []
        of = Evidence(np.where(organ, 0.7, 0.2).astype(np.float32), np.ones(DEPTH, np.float32), decode)
        found = followed(organ, confident_at(4), of)
        ends.append(int(np.flatnonzero(found.any(axis=(1, 2)))[-1]))
    assert ends[0] == 17
    assert ends[1] < 17
