"""Draw docs/images/refine.png and propagate.png: masks before and after refinement, and a propagated annotated slice.

    python benchmarks/draw_refine.py refine SCAN REFERENCE VALUE COARSE REFINED VALUE PICTURE
    python benchmarks/draw_refine.py propagate SCAN REFERENCE VALUE MASK VALUE PICTURE

Each mask is followed by the organ's label value in it. Use only data whose licence allows publication.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from frugalseg.evaluation.overlays import PREDICTION_COLOUR, REFERENCE_COLOUR
from frugalseg.imaging.intensity import IntensityScale
from frugalseg.imaging.read import read_labels, read_volume
from frugalseg.promptable.embeddings import ScanSlices
from frugalseg.records.predictions import PREDICTIONS_FILE

MARGIN = 12


def main(kind: str, scan: str, reference: str, value: str, *rest: str) -> None:
    slices = ScanSlices.of(read_volume(Path(scan)), IntensityScale("ct", -160, 240))
    truth = slices.stack(read_labels(Path(reference))) == int(value)
    *masks, own, picture = rest
    shown = [slices.stack(read_labels(Path(mask))) == int(own) for mask in masks]
    holding = np.flatnonzero(truth.any(axis=(1, 2)))
    if kind == "refine":
        columns = holding[(np.linspace(0.15, 0.85, 3) * (len(holding) - 1)).astype(int)]
        titles, annotated = ["as predicted", "refined"], []
    else:
        note = json.loads((Path(masks[0]).parent / PREDICTIONS_FILE).read_text())
        annotated = next(iter(note["annotated"].values()))
        columns = np.unique(np.linspace(holding[0], holding[-1], 5).astype(int).tolist() + annotated)
        titles = [""]
    box = _around(truth | np.logical_or.reduce(shown))
    figure, axes = plt.subplots(
        len(shown), len(columns), figsize=(2.4 * len(columns), 2.35 * len(shown)), layout="constrained", squeeze=False
    )
    for i, (mask, title) in enumerate(zip(shown, titles, strict=True)):
        for j, z in enumerate(columns):
            caption = "annotated" if z in annotated else f"{title} Dice {_dice(mask[z], truth[z]):.3f}".strip()
            _show(axes[i, j], slices(int(z)).numpy()[box], f"slice {z}: {caption}")
            for outline, colour in ((truth[z], REFERENCE_COLOUR), (mask[z], PREDICTION_COLOUR)):
                if outline.any() and not (z in annotated and colour == PREDICTION_COLOUR):
                    axes[i, j].contour(outline[box], [0.5], colors=colour, linewidths=1)
    figure.savefig(picture, dpi=80)


def _around(masks: np.ndarray) -> tuple[slice, slice]:
    there = masks.any(axis=0)
    rows, columns = np.flatnonzero(there.any(axis=1)), np.flatnonzero(there.any(axis=0))
    return (
        slice(max(0, rows[0] - MARGIN), rows[-1] + MARGIN),
        slice(max(0, columns[0] - MARGIN), columns[-1] + MARGIN),
    )


def _dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / max(1, a.sum() + b.sum()))


def _show(axis: Axes, image: np.ndarray, title: str) -> None:
    axis.imshow(image, cmap="gray", vmin=0, vmax=1)
    axis.set_title(title, fontsize=8)
    axis.axis("off")


if __name__ == "__main__":
    main(*sys.argv[1:])
