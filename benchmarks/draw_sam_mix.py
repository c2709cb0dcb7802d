"""Draw docs/images/sam-mix.png: slices, the classifier's CAM and box, the masks with their scores, the final mask.

    python benchmarks/draw_sam_mix.py RUN SCAN REFERENCE VALUE PICTURE [BASE]

RUN is a run of `frugalseg sam-mix train`, whose first organ has the label VALUE in REFERENCE. The slices are evenly
spaced within the organ and not selected by their result. Use only data whose licence allows publication.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from frugalseg.evaluation.overlays import PREDICTION_COLOUR, REFERENCE_COLOUR
from frugalseg.imaging.read import read_labels, read_volume
from frugalseg.imaging.square import Square
from frugalseg.options import SamMixPredictOptions
from frugalseg.promptable.embeddings import ScanSlices
from frugalseg.sam_mix.model import assign_classes
from frugalseg.sam_mix.predict import MixPredictor

ROWS = 4
NAMES = ("single, ", "1 of 3, ", "2 of 3, ", "3 of 3, ")
"""Names of the masks of one prompt."""
COLUMNS = 3 + len(NAMES)
MARGIN = 12
"""Pixels around all outlines, where the image is cropped."""
BOX_COLOUR, OTHER_COLOUR = "#00e5ff", "#ffffff"


@dataclass(frozen=True)
class Seen:
    """One slice on the scan's own pixels (H, W), and the model's results.

    Box, masks and scores exist only if the classifier detected the organ.

    Attributes:
        box: x0, y0, x1, y1 in pixels.
        masks: (4 or 0, H, W).
    """

    z: int
    image: npt.NDArray[np.float32]
    reference: npt.NDArray[np.bool_]
    present: float
    cam: npt.NDArray[np.float32]
    box: list[float] | None
    masks: npt.NDArray[np.bool_]
    scores: list[float]
    final: npt.NDArray[np.bool_]


def main(run: str, scan: str, reference: str, value: str, picture: str, base: str | None = None) -> None:
    predictor = MixPredictor.from_options(
        SamMixPredictOptions(model=Path(run), images=Path(scan), out=Path(picture), base=base, device="cpu")
    )
    slices = ScanSlices.of(read_volume(Path(scan)), predictor.intensity)
    truth = slices.stack(read_labels(Path(reference))) == int(value)
    holding = np.flatnonzero(truth.any(axis=(1, 2)))
    rows = holding[(np.linspace(0.2, 0.8, ROWS) * (len(holding) - 1)).astype(int)]
    seen = [_look(predictor, slices, truth, int(z)) for z in rows]
    near = _around(np.stack([mask for one in seen for mask in (one.reference, *one.masks)]))
    organ = next(iter(predictor.trained))
    figure, axes = plt.subplots(ROWS, COLUMNS, figsize=(1.7 * COLUMNS, 1.9 * ROWS), layout="constrained")
    for i, one in enumerate(seen):
        _draw(axes[i], one, near, organ, i == 0)
    figure.savefig(picture, dpi=80)


@torch.inference_mode()
def _look(predictor: MixPredictor, slices: ScanSlices, truth: npt.NDArray[np.bool_], z: int) -> Seen:
    image = slices(z)
    square = Square.fit(slices.shape, slices.pixel_mm, predictor.size)
    found = predictor.network.find(square.resize_images(image[None])[:, None])
    planes, scores = found.planes()
    sought = torch.nonzero(found.organs == 0)[:, 0].tolist()
    return Seen(
        z=z,
        image=image.numpy(),
        reference=truth[z],
        present=float(found.present[0, 0]),
        cam=square.restore(found.cams)[0, 0].numpy(),
        box=_box(square, found.boxes[sought[0]].tolist()) if sought else None,
        masks=square.restore(found.logits[sought].sigmoid()).flatten(0, 1).numpy() > 0.5,
        scores=found.scores[sought[0]].tolist() if sought else [],
        final=assign_classes(square.restore(planes), scores)[0].numpy() == 1,
    )


def _box(square: Square, box: list[float]) -> list[float]:
    """Convert a box from pixels of the square to pixels of the slice."""
    top, left = square.pads
    across, down = square.shape[1] / square.inner[1], square.shape[0] / square.inner[0]
    x0, y0, x1, y1 = box
    return [(x0 - left) * across, (y0 - top) * down, (x1 - left) * across, (y1 - top) * down]


def _around(masks: npt.NDArray[np.bool_]) -> tuple[slice, slice]:
    """Rows and columns of a square around masks (N, H, W), within the slice."""
    there = masks.any(axis=0)
    ends = [(found[0], found[-1] + 1) for found in (np.flatnonzero(there.any(axis=axis)) for axis in (1, 0))]
    half = max(end - start for start, end in ends) // 2 + MARGIN
    middles = [(start + end) // 2 for start, end in ends]
    rows, columns = (slice(max(0, middle - half), middle + half) for middle in middles)
    return rows, columns


def _draw(axes: npt.NDArray[np.object_], one: Seen, near: tuple[slice, slice], organ: str, first: bool) -> None:
    head = ["", "CAM and box, ", *NAMES, "final, "] if first else [""] * COLUMNS
    best = int(np.argmax(one.scores)) if one.scores else -1
    dice = 2 * (one.final & one.reference).sum() / max(1, one.final.sum() + one.reference.sum())
    _show(axes[0], one.image, f"slice {one.z}")
    _show(axes[1], one.image, f"{head[1]}p({organ}) {one.present:.2f}")
    axes[1].imshow(one.cam, cmap="inferno", alpha=0.5, vmin=0, vmax=1)
    if one.box is not None:
        height, width = one.image.shape
        # Pixel centres are at integers; a line on the border of the image would be cut in half.
        x0, x1 = np.clip([one.box[0] - 0.5, one.box[2] - 0.5], 2, width - 3)
        y0, y1 = np.clip([one.box[1] - 0.5, one.box[3] - 0.5], 2, height - 3)
        axes[1].add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, color=BOX_COLOUR, linewidth=1.5))
    for m, axis in enumerate(axes[2:-1]):
        if not one.scores:
            _show(axis, one.image[near] / 3, f"{head[2 + m]}no mask")
            continue
        _show(axis, one.image[near], f"{head[2 + m]}score {one.scores[m]:.2f}{' *' if m == best else ''}")
        _outline(axis, one.masks[m][near], PREDICTION_COLOUR if m == best else OTHER_COLOUR)
    _show(axes[-1], one.image[near], f"{head[-1]}Dice {dice:.2f}")
    _outline(axes[-1], one.reference[near], REFERENCE_COLOUR)
    _outline(axes[-1], one.final[near], PREDICTION_COLOUR)


def _outline(axis: Axes, mask: npt.NDArray[np.bool_], colour: str) -> None:
    if mask.any():
        axis.contour(mask, [0.5], colors=colour, linewidths=1.3)


def _show(axis: Axes, image: npt.NDArray[np.float32], title: str) -> None:
    axis.imshow(image, cmap="gray", vmin=0, vmax=1)
    axis.set_title(title, fontsize=9)
    axis.axis("off")


if __name__ == "__main__":
    main(*sys.argv[1:])
