"""The contact sheet: the suggested slices in a grid, each with scan and number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from frugalseg.engine.files import atomic_write
from frugalseg.records.suggestions import Suggestion

COLUMNS = 5
INCHES, TITLE_INCHES = 2.4, 0.4
MOST_PICTURES = 60
MODEL_COLOUR = "#e69f00"


def draw_sheet(
    path: Path,
    suggestions: Sequence[Suggestion],
    images: npt.NDArray[np.floating[Any]],
    masks: npt.NDArray[np.bool_] | None,
) -> None:
    """Draw the first `MOST_PICTURES` suggestions.

    Args:
        path: of the PNG.
        suggestions: most useful first.
        images: (n, S, S) their slices in [0, 1].
        masks: (n, S, S) the model's masks, drawn as an outline; None without a model.
    """
    from matplotlib.figure import Figure

    shown = min(len(suggestions), MOST_PICTURES)
    columns = min(COLUMNS, shown)
    lines = math.ceil(shown / columns)
    height = INCHES + TITLE_INCHES
    figure = Figure(figsize=(columns * INCHES, lines * height), dpi=100, facecolor="black")
    for n, suggestion in enumerate(suggestions[:shown]):
        line, column = divmod(n, columns)
        bottom = (lines - line - 1) / lines
        axes = figure.add_axes((column / columns, bottom, 1 / columns, INCHES / height / lines))
        axes.set_axis_off()
        axes.imshow(images[n].astype(np.float32), cmap="gray", vmin=0, vmax=1, interpolation="bilinear")
        if masks is not None and masks[n].any():
            axes.contour(masks[n], levels=[0.5], colors=[MODEL_COLOUR], linewidths=[1.2])
        sure = "" if suggestion.confidence is None else f", Dice ≈ {suggestion.confidence:.2f}"
        axes.set_title(
            f"{n + 1}. {suggestion.case[-24:]}\nslice {suggestion.slice} of 0…{suggestion.slices - 1}{sure}".replace(
                "$", r"\$"
            ),
            color="white",
            fontsize=7,
        )
    with atomic_write(path) as file:
        figure.savefig(file, format="png", facecolor="black")
