"""Pictures of a case: the scan in grey, the outline of the reference and of the prediction."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from frugalseg.dataset.targets import Targets
from frugalseg.errors import FrugalsegError, PairingError
from frugalseg.evaluation.case_row import CaseRow
from frugalseg.evaluation.cases import read_pair
from frugalseg.evaluation.metrics import organ_mask
from frugalseg.evaluation.pairing import Pairs
from frugalseg.evaluation.surface import Mask
from frugalseg.imaging.grids import onto_grid
from frugalseg.imaging.intensity import IntensityScale
from frugalseg.imaging.read import read_volume
from frugalseg.imaging.volume import Array, Volume, canonical

REFERENCE_COLOUR, PREDICTION_COLOUR = "#56b4e9", "#e69f00"
"""Sky blue and orange of Okabe and Ito: distinguishable with colour blindness of any kind, and bright on grey."""

DEFAULT_SCALE = IntensityScale(kind="mr", low=0.5, high=99.5)
"""The grey scale of a scan where the model's window is not known."""

PIXELS_PER_PANEL = 420
ZOOM_MARGIN_MM = 35.0


@dataclass(frozen=True)
class Panel:
    """One picture: a PNG as base64, and its caption."""

    png: str
    caption: str


@dataclass(frozen=True)
class CaseView:
    """The pictures of one case and organ.

    Attributes:
        label: "best", "median" or "worst".
        row: its figures.
        panels: its pictures.
        note: why the scan is not shown, or "".
    """

    label: str
    row: CaseRow
    panels: list[Panel]
    note: str


def choose_cases(rows: Sequence[CaseRow]) -> list[tuple[str, CaseRow]]:
    """The best, the median and the worst case by Dice, each case once; ties are broken by case id."""
    ranked = sorted((r for r in rows if not np.isnan(r["dice"])), key=lambda r: (-r["dice"], r.case))
    picked: dict[str, tuple[str, CaseRow]] = {}
    for label, i in (("best", 0), ("worst", len(ranked) - 1), ("median", len(ranked) // 2)):
        if ranked:
            picked.setdefault(ranked[i].case, (label, ranked[i]))
    return sorted(picked.values(), key=lambda pair: ("best", "median", "worst").index(pair[0]))


def draw_cases(
    chosen: Sequence[tuple[str, CaseRow]],
    pairs: Pairs,
    images: Mapping[str, Path],
    targets: Targets,
    scale: IntensityScale | None,
) -> list[CaseView]:
    """Draw the chosen cases; where a scan cannot be shown, the outlines are drawn on black and the note says why.

    Args:
        chosen: labels and rows from `choose_cases`.
        pairs: paths of the masks.
        images: case id → scan.
        targets: organ → label values.
        scale: the model's intensity scale; percentiles where None.
    """
    views = []
    for label, row in chosen:
        shown = read_shown(row.case, pairs, images, scale)
        reference, prediction = (organ_mask(m, targets[row.organ]) for m in (shown.reference, shown.prediction))
        panels = draw_panels(shown.image, reference, prediction, shown.spacing)
        views.append(CaseView(label, row, panels, shown.note))
    return views


@dataclass(frozen=True, eq=False)
class ShownCase:
    """A scan and its masks for pictures, in canonical axes.

    Attributes:
        image: (X, Y, Z) in [0, 1], or None where the scan cannot be shown.
        reference, prediction: (X, Y, Z), label values.
        spacing: mm along X, Y, Z.
        note: why the scan is not shown, or "".
    """

    image: npt.NDArray[np.float32] | None
    reference: Array
    prediction: Array
    spacing: tuple[float, float, float]
    note: str


def read_shown(case: str, pairs: Pairs, images: Mapping[str, Path], scale: IntensityScale | None) -> ShownCase:
    """Read a case for its pictures; for the arguments see `draw_cases`."""
    reference, prediction = read_pair(case, *pairs.masks[case], images.get(case))
    image, note = _read_image(images.get(case), reference)
    upright, way = canonical(reference)
    shown = None
    if image is not None:
        grey = way.apply(image)
        fitted = scale or DEFAULT_SCALE
        shown = fitted.apply(grey.array, fitted.fit(grey.array, grey.padding), grey.padding)
    return ShownCase(shown, upright.array, way.apply(prediction).array, upright.spacing, note)


def _read_image(path: Path | None, mask: Volume) -> tuple[Volume | None, str]:
    if path is None:
        return None, "No scan was given for this case: outlines on black."
    try:
        image = read_volume(path)
    except FrugalsegError as error:
        return None, f"The scan cannot be shown ({error.problem}): outlines on black."
    try:
        return onto_grid(image, mask, path.name, ("scan", "masks")), ""
    except PairingError:
        return None, f"The scan {path.name} is on another grid than the masks: outlines on black."


@dataclass(frozen=True)
class Cut:
    """One plane of a scan; its first axis points to the right in the picture.

    Attributes:
        image: (U, V) in [0, 1], or None for black.
        reference, prediction: (U, V), bool, or the number of the organ, 0 where there is none.
        spacing: mm along U and V.
        upward: whether V points up in the picture instead of down.
    """

    image: npt.NDArray[np.float32] | None
    reference: Array
    prediction: Array
    spacing: tuple[float, float]
    upward: bool = False

    def crop_to_masks(self, margin_mm: float) -> Cut:
        """The part around both masks, with a margin."""
        held = np.argwhere(self.reference | self.prediction)
        margin = np.ceil(margin_mm / np.array(self.spacing)).astype(int)
        low = np.maximum(held.min(axis=0) - margin, 0)
        high = held.max(axis=0) + margin + 1
        part = slice(low[0], high[0]), slice(low[1], high[1])
        image = None if self.image is None else self.image[part]
        return Cut(image, self.reference[part], self.prediction[part], self.spacing, self.upward)


def draw_panels(
    image: npt.NDArray[np.float32] | None,
    reference: Mask,
    prediction: Mask,
    spacing: tuple[float, float, float],
) -> list[Panel]:
    """The axial slice with most of the organ, the one with most disagreement (closer), and a coronal cut.

    Args:
        image: canonical (X, Y, Z) in [0, 1], or None for black.
        reference, prediction: canonical (X, Y, Z), bool; at least one is not empty.
        spacing: mm along X, Y, Z.
    """
    in_reference = bool(reference.any())
    organ = reference if in_reference else prediction
    z, y = (int(np.argmax(np.count_nonzero(organ, axis=axes))) for axes in ((0, 1), (0, 2)))
    wrong = np.count_nonzero(reference ^ prediction, axis=(0, 1))
    w = int(np.argmax(wrong))

    def cut_axial(at: int) -> Cut:
        plane = None if image is None else image[:, :, at]
        return Cut(plane, reference[:, :, at], prediction[:, :, at], (spacing[0], spacing[1]))

    coronal = Cut(
        None if image is None else image[:, y], reference[:, y], prediction[:, y], (spacing[0], spacing[2]), upward=True
    )
    count = reference.shape[2]
    whose = "reference" if in_reference else "prediction (the reference is empty)"
    panels = [draw_panel(cut_axial(z), f"Axial slice {z + 1} of {count}: largest area of the {whose}")]
    if wrong[w]:
        area = wrong[w] * spacing[0] * spacing[1] / 100
        caption = f"Axial slice {w + 1} of {count}, closer: largest disagreement, {area:.1f} cm²"
        panels.append(draw_panel(cut_axial(w).crop_to_masks(ZOOM_MARGIN_MM), caption))
    panels.append(draw_panel(coronal, f"Coronal cut {y + 1} of {reference.shape[1]}: largest area of the {whose}"))
    return panels


def draw_panel(cut: Cut, caption: str) -> Panel:
    """A cut in grey, with the outline of every organ in both masks."""
    from matplotlib.figure import Figure

    width, height = (n * s for n, s in zip(cut.reference.shape, cut.spacing, strict=True))
    scale = PIXELS_PER_PANEL / max(width, height) / 100
    figure = Figure(figsize=(max(width * scale, 0.6), max(height * scale, 0.6)), dpi=100, facecolor="black")
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    shown = np.zeros(cut.reference.shape, np.float32) if cut.image is None else cut.image
    extent = (0.0, width, 0.0, height) if cut.upward else (0.0, width, height, 0.0)
    origin: Literal["lower", "upper"] = "lower" if cut.upward else "upper"
    axes.imshow(shown.T, cmap="gray", vmin=0, vmax=1, extent=extent, origin=origin, interpolation="bilinear")
    # The prediction is drawn last and thinner: where both agree, its orange line lies inside the blue one.
    for mask, colour, line in ((cut.reference, REFERENCE_COLOUR, 3.0), (cut.prediction, PREDICTION_COLOUR, 1.3)):
        u, v = ((np.arange(-1, n + 1) + 0.5) * s for n, s in zip(mask.shape, cut.spacing, strict=True))
        for organ in np.unique(mask[mask > 0]):
            shape = np.pad(mask == organ, 1).T.astype(float)
            axes.contour(u, v, shape, levels=[0.5], colors=[colour], linewidths=[line])
    axes.set_xlim(extent[0], extent[1])
    axes.set_ylim(extent[2], extent[3])
    for text, x, side in (("R", 0.02, "left"), ("L", 0.98, "right")):
        axes.text(x, 0.5, text, transform=axes.transAxes, color="white", ha=side, va="center", fontsize=11, alpha=0.85)
    target = io.BytesIO()
    figure.savefig(target, format="png", facecolor="black")
    return Panel(base64.b64encode(target.getvalue()).decode("ascii"), caption)
