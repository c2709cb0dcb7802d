"""The likeliest class of each pixel, without the probabilities of whole slices at full resolution."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

MIXED = 255
"""Marks a cell whose four pixels differ in class; no class has this number (at most 254 are allowed)."""

MOST_MIXED = 1 / 8
"""Share of pixels between different classes from which on resizing the whole slice is quicker."""


def likeliest(background: Tensor, classes: Tensor) -> Tensor:
    """The number of the highest value at each place: 0 the background's, 1…C the classes'; of equals the first.

    A running maximum: `argmax` over another axis than the last takes 5 (14 values) to 80 times (2 values) as long.

    Args:
        background: (…) probabilities or logits of the background.
        classes: (C, …) those of the classes.

    Returns:
        (…) uint8.
    """
    highest, numbers = background, torch.zeros_like(background, dtype=torch.uint8)
    for number, values in enumerate(classes, start=1):
        numbers.masked_fill_(values > highest, number)
        if number < len(classes):
            highest = torch.maximum(highest, values)
    return numbers


def likeliest_with_margin(values: Tensor) -> tuple[Tensor, Tensor]:
    """The same with the difference between the highest value and the second highest.

    Args:
        values: (C + 1, …) of the background and the classes, C ≥ 1, none below 0.

    Returns:
        (…) uint8, and (…) the differences, 0 or more.
    """
    numbers = likeliest(values[0], values[1:])
    highest, second = values[0], torch.zeros_like(values[0])
    for value in values[1:]:
        second = torch.maximum(second, torch.minimum(value, highest))
        highest = torch.maximum(highest, value)
    return numbers, highest - second


def resized_classes(probabilities: Tensor, shape: tuple[int, int]) -> Tensor:
    """The likeliest class of each pixel after bilinear resizing.

    Slices that do not shrink are resized on a CPU where the classes of neighbouring pixels differ, and only there:
    between four pixels in which one class is the likeliest, it is the likeliest at every place. Elsewhere whole slices
    are resized, on a CPU one at a time.

    Args:
        probabilities: (N, C, h, w) of the classes 1…C; the background has the rest.
        shape: H, W of the result.

    Returns:
        (N, H, W) uint8, 0 for background.
    """
    here = (probabilities.shape[2], probabilities.shape[3])
    if probabilities.device.type != "cpu":
        return _likeliest_with_background(interpolated(probabilities, shape).transpose(0, 1))
    if shape[0] < here[0] or shape[1] < here[1]:
        slices = [_likeliest_with_background(interpolated(one[None], shape)[0]) for one in probabilities]
    elif shape == here:
        slices = [_likeliest_with_background(one) for one in probabilities]
    else:
        rows, columns = Taps.between(here[0], shape[0]), Taps.between(here[1], shape[1])
        slices = [_enlarged_classes(one, rows, columns) for one in probabilities]
    return torch.stack(slices)


class Taps(NamedTuple):
    """Between which two pixels of a row or column each pixel of an enlarged one lies, and how near to the second.

    Attributes:
        first, second: (n,) numbers of pixels, equal at the borders.
        weight: (n,) of the second, in [0, 1).
    """

    first: Tensor
    second: Tensor
    weight: Tensor

    @classmethod
    def between(cls, source: int, target: int) -> Taps:
        """Those of `target` pixels over `source`; the places are those of PyTorch's bilinear interpolation."""
        place = ((torch.arange(target) + 0.5) * (source / target) - 0.5).clamp(0, source - 1)
        first = place.long()
        return cls(first, (first + 1).clamp(max=source - 1), place - first)


def interpolated(planes: Tensor, shape: tuple[int, int]) -> Tensor:
    """(N, C, h, w) → (N, C, *shape), bilinear between pixel centres, anti-aliased where it shrinks."""
    here = (planes.shape[2], planes.shape[3])
    if here == shape:
        return planes
    if shape[1] == 1 or here[1] == 1:
        # PyTorch 2.13 mixes up the rows of a single column when it anti-aliases; single rows it handles.
        lying = _interpolated(planes.transpose(2, 3).contiguous(), (shape[1], shape[0]))
        return lying.transpose(2, 3).contiguous()
    return _interpolated(planes, shape)


def _interpolated(planes: Tensor, shape: tuple[int, int]) -> Tensor:
    shrinks = shape[0] < planes.shape[2] or shape[1] < planes.shape[3]
    return F.interpolate(planes, shape, mode="bilinear", align_corners=False, antialias=shrinks)


def _likeliest_with_background(probabilities: Tensor) -> Tensor:
    """Of probabilities (C, …)."""
    return likeliest(1 - probabilities.sum(dim=0), probabilities)


def _enlarged_classes(probabilities: Tensor, rows: Taps, columns: Taps) -> Tensor:
    """The classes of one slice, (C, h, w) → (H, W)."""
    cells = _mark_mixed(_likeliest_with_background(probabilities))
    classes = cells.index_select(1, columns.first).index_select(0, rows.first)
    y, x = (classes == MIXED).nonzero(as_tuple=True)
    if len(y) > MOST_MIXED * classes.numel():
        return _likeliest_with_background(interpolated(probabilities[None], (len(rows.first), len(columns.first)))[0])
    classes[y, x] = _likeliest_with_background(_interpolated_at(probabilities, rows, columns, y, x))
    return classes


def _mark_mixed(classes: Tensor) -> Tensor:
    """(h, w) with `MIXED` wherever a pixel, its right and its lower neighbours differ."""
    right = torch.cat([classes[:, 1:], classes[:, -1:]], dim=1)
    mixed = classes != right
    mixed[:-1] |= (classes[:-1] != classes[1:]) | (classes[:-1] != right[1:])
    return classes.masked_fill(mixed, MIXED)


def _interpolated_at(planes: Tensor, rows: Taps, columns: Taps, y: Tensor, x: Tensor) -> Tensor:
    """Values (C, K) of planes (C, h, w) at the pixels y, x (K,) of the enlarged slice."""
    flat, width = planes.flatten(1), planes.shape[2]
    left, right, across, down = columns.first[x], columns.second[x], columns.weight[x], rows.weight[y]

    def along(row: Tensor) -> Tensor:
        begin = row[y] * width
        return (1 - across) * flat.index_select(1, begin + left) + across * flat.index_select(1, begin + right)

    return (1 - down) * along(rows.first) + down * along(rows.second)
