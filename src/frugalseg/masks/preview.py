"""A picture and a page to look at a mask without a reference and without a network.

The page holds everything in one file: the slices as one picture, the mask as another, tiles in rows. A script draws one
tile at a time, so that a browser opens it in a moment.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from frugalseg._version import __version__
from frugalseg.imaging.intensity import IntensityScale
from frugalseg.imaging.volume import Volume, axial_slices, canonical
from frugalseg.records.predictions import CaseRecord, TargetValues

FOLDER = "previews"
TEMPLATE = Path(__file__).with_name("preview.html")
WIDEST = 320
"""Pixels of a tile's longer side: enough to judge an outline, and a page of 100 slices stays below 3 MB."""
MOST_SLICES = 160
MONTAGE = (3, 4)
"""Rows and columns of the picture."""

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Tiles:
    """Slices to show, with square pixels.

    Attributes:
        grey: (N, H, W) 0…255.
        classes: (N, H, W) number of the organ, 0 background.
        slices: number of each in the scan, from 0 at the inferior end.
    """

    grey: Bytes
    classes: Bytes
    slices: list[int]


def draw_preview(
    case: str, scan: Volume, mask: Volume, organs: TargetValues, scale: IntensityScale, record: CaseRecord
) -> dict[str, bytes]:
    """The files of a preview: name → content.

    Args:
        case: case id.
        scan: the scan.
        mask: on its grid.
        organs: organ → label values.
        scale: intensities that are black and white.
        record: with the statistics of the organs, and the confidence in them if it is known.
    """
    tiles = _make_tiles(scan, mask, organs, scale)
    colours = [colour_of(number) for number in range(1, len(organs) + 1)]
    return {
        f"{FOLDER}/{case}.png": _encode(_draw_montage(tiles, colours), "PNG"),
        f"{FOLDER}/{case}.html": _fill_page(case, tiles, colours, organs, record).encode(),
    }


def colour_of(number: int) -> tuple[int, int, int]:
    """Red, green and blue of an organ by its number from 1; neighbouring numbers differ much."""
    from colorsys import hsv_to_rgb

    red, green, blue = hsv_to_rgb((0.618034 * (number - 1)) % 1, 0.75, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def _make_tiles(scan: Volume, mask: Volume, organs: TargetValues, scale: IntensityScale) -> Tiles:
    upright, way = canonical(scan)
    stack, labels = axial_slices(upright.array), axial_slices(way.apply(mask).array)
    slices = np.unique(np.linspace(0, len(stack) - 1, min(len(stack), MOST_SLICES)).round().astype(int))
    limits = scale.fit(upright.array, upright.padding)
    rows, columns = _pixels_to_show(stack.shape[1:], (upright.spacing[1], upright.spacing[0]))
    numbers = np.zeros(int(max([labels.max(), *(v for values in organs.values() for v in values)])) + 1, np.uint8)
    for number, values in enumerate(organs.values(), start=1):
        numbers[list(values)] = number
    shown = [stack[z][np.ix_(rows, columns)] for z in slices]
    grey = [(255 * scale.apply(plane, limits, upright.padding)).round().astype(np.uint8) for plane in shown]
    classes = [numbers[labels[z][np.ix_(rows, columns)]] for z in slices]
    return Tiles(np.stack(grey), np.stack(classes), slices.tolist())


def _pixels_to_show(shape: tuple[int, ...], spacing: tuple[float, float]) -> list[npt.NDArray[np.intp]]:
    """The rows and columns whose pixels make a tile with square pixels: nearest neighbours, for scan and mask alike."""
    sides = [count * mm for count, mm in zip(shape, spacing, strict=True)]
    pixel = max(max(sides) / WIDEST, min(spacing))
    lengths = [max(1, round(side / pixel)) for side in sides]
    return [
        ((np.arange(length) + 0.5) * count / length).astype(np.intp)
        for length, count in zip(lengths, shape, strict=True)
    ]


def _draw_montage(tiles: Tiles, colours: list[tuple[int, int, int]]) -> Bytes:
    """Slices from the first to the last that shows an organ, with the mask's outline, (H, W, 3)."""
    there = np.flatnonzero(tiles.classes.any(axis=(1, 2)))
    first, last = (there[0], there[-1]) if len(there) else (0, len(tiles.slices) - 1)
    count = MONTAGE[0] * MONTAGE[1]
    chosen = np.linspace(first, last, count).round().astype(int)
    palette = np.array([(0, 0, 0), *colours], np.uint8)
    pictures = []
    for at in chosen:
        classes = tiles.classes[at]
        picture = np.repeat(tiles.grey[at][..., None], 3, axis=2)
        line = _find_borders(classes)
        picture[line] = palette[classes[line]]
        pictures.append(picture)
    rows = [np.concatenate(pictures[i : i + MONTAGE[1]], axis=1) for i in range(0, count, MONTAGE[1])]
    return np.concatenate(rows)


def _find_borders(classes: Bytes) -> npt.NDArray[np.bool_]:
    """Pixels of an organ beside a pixel of another class."""
    framed = np.pad(classes, 1)
    inner = framed[1:-1, 1:-1]
    beside = (framed[:-2, 1:-1], framed[2:, 1:-1], framed[1:-1, :-2], framed[1:-1, 2:])
    border: npt.NDArray[np.bool_] = (inner > 0) & np.any([inner != other for other in beside], axis=0)
    return border


def _encode(picture: Bytes, kind: str, palette: list[tuple[int, int, int]] | None = None) -> bytes:
    from PIL import Image

    image = Image.fromarray(picture)
    options: dict[str, Any] = {"quality": 88} if kind == "JPEG" else {"compress_level": 3}
    if palette is not None:
        image = image.convert("P") if image.mode != "P" else image
        image.putpalette([0, 0, 0, *(part for colour in palette for part in colour)])
        options["transparency"] = 0
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _to_sheet(tiles: Bytes, columns: int) -> Bytes:
    """(N, H, W) → one picture with so many tiles a row."""
    count, height, width = tiles.shape
    rows = -(-count // columns)
    sheet = np.zeros((rows * columns, height, width), tiles.dtype)
    sheet[:count] = tiles
    return sheet.reshape(rows, columns, height, width).transpose(0, 2, 1, 3).reshape(rows * height, columns * width)


def _fill_page(
    case: str, tiles: Tiles, colours: list[tuple[int, int, int]], organs: TargetValues, record: CaseRecord
) -> str:
    columns = int(np.ceil(np.sqrt(len(tiles.slices))))
    content = {
        "case": case,
        "version": __version__,
        "slices": tiles.slices,
        "width": tiles.grey.shape[2],
        "height": tiles.grey.shape[1],
        "columns": columns,
        "grey": _to_url(_encode(_to_sheet(tiles.grey, columns), "JPEG"), "jpeg"),
        "mask": _to_url(_encode(_to_sheet(tiles.classes, columns), "PNG", colours), "png"),
        "organs": [_describe_organ(organ, colour, record) for organ, colour in zip(organs, colours, strict=True)],
    }
    # "</" would end the script that holds the content.
    text = json.dumps(content, ensure_ascii=False).replace("</", "<\\/")
    return TEMPLATE.read_text(encoding="utf-8").replace("{{CONTENT}}", text)


def _describe_organ(organ: str, colour: tuple[int, int, int], record: CaseRecord) -> Mapping[str, object]:
    own = (record.confidence or {}).get(organ)
    statistics = (record.statistics or {}).get(organ)
    return {
        "name": organ,
        "colour": "rgb({}, {}, {})".format(*colour),
        "statistics": None if statistics is None else asdict(statistics),
        "confidence": None if own is None else own.confidence,
        "expected_dice": None if own is None else own.expected_dice,
        "lower_bound": None if own is None else own.lower_bound,
        "by_slice": {} if own is None else dict(zip(own.slices.slice, own.slices.confidence, strict=True)),
    }


def _to_url(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
