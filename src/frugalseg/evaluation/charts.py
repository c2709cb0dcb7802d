"""Small charts as inline SVG that take their text colour from the page, for light and dark mode."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from frugalseg.records.summary import Limit, VolumeAgreement
from frugalseg.text import format_number

INK = "#010203"
"""Placeholder that `to_svg` replaces by the page's text colour."""
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""The palette of Okabe and Ito, distinguishable with colour blindness."""

Floats = npt.NDArray[np.float64]
Curve = tuple[Sequence[float], Sequence[float]]


def draw_line_chart(curves: Mapping[str, Curve], title: str, limits: tuple[float, float] | None = None) -> str:
    """Draw curves over training steps; name → (steps, values). Points of short curves are marked. Returns SVG."""
    figure, axes = make_chart(title, 4.6, 2.5)
    for i, (name, (steps, values)) in enumerate(curves.items()):
        colour = COLOURS[i % len(COLOURS)]
        axes.plot(steps, values, color=colour, lw=1.6, marker="o" if len(steps) < 25 else None, ms=3.2, label=name)
    axes.set_xlabel("step")
    if limits is not None:
        axes.set_ylim(*limits)
    if len(curves) > 1:
        axes.legend(frameon=False, labelcolor=INK, fontsize=8)
    return to_svg(figure, title)


def draw_histogram(values: Sequence[float], title: str) -> str:
    """Draw the histogram of Dice values in 0…1, with a tick for every scan. Returns SVG."""
    figure, axes = make_chart(title, 4.6, 2.2)
    axes.hist(values, bins=np.linspace(0, 1, 21), color=COLOURS[0], alpha=0.75, rwidth=0.92)
    axes.plot(values, [0.03] * len(values), "|", color=INK, ms=9, mew=1, transform=axes.get_xaxis_transform())
    mean = float(np.mean(values))
    axes.margins(y=0.22)  # space for the label above the bars
    axes.axvline(mean, color=COLOURS[1], lw=1.5)
    left = mean > 0.5
    axes.annotate(
        f"mean {mean:.3f}",
        (mean, 0.97),
        xycoords=("data", "axes fraction"),
        xytext=(-5 if left else 5, 0),
        textcoords="offset points",
        ha="right" if left else "left",
        va="top",
        color=INK,
        fontsize=8,
    )
    axes.set_xlim(0, 1)
    axes.set_xlabel("Dice")
    axes.set_ylabel("scans")
    axes.yaxis.get_major_locator().set_params(integer=True)
    return to_svg(figure, title)


def draw_bland_altman(reference: Floats, prediction: Floats, agreement: VolumeAgreement, title: str) -> str:
    """Draw predicted minus reference volume over the mean of both, with bias and limits of agreement. Returns SVG.

    Args:
        reference, prediction: (n,) volume in each scan, ml.
        agreement: of these volumes; the intervals of its lines are drawn as bands.
        title: of the chart.
    """
    figure, axes = make_chart(title, 4.6, 3.0)
    differences = prediction - reference
    outer = (agreement.lower, agreement.upper) if agreement.sd_ml else ()
    for line, name, colour in ((agreement.bias, "bias ", COLOURS[1]), *((one, "", COLOURS[0]) for one in outer)):
        if line.ml is not None:
            _draw_level(axes, line, name, colour)
    axes.plot((reference + prediction) / 2, differences, "o", color=INK, ms=4, alpha=0.75, mew=0)
    shown = [0.0, *differences, *(one.ml for one in outer if one.ml is not None)]
    margin = 0.2 * (max(shown) - min(shown)) or 1.0  # bands, which are wide with few scans, may end outside
    axes.set_ylim(min(shown) - margin, max(shown) + margin)
    axes.set_xlabel("mean of both volumes, ml")
    axes.set_ylabel("prediction − reference, ml")
    return to_svg(figure, title)


def _draw_level(axes: Any, line: Limit, name: str, colour: str) -> None:
    """A horizontal line with its interval as a band, and its value beside it."""
    if line.ci95 is not None:
        axes.axhspan(*line.ci95, color=colour, alpha=0.12, lw=0)
    axes.axhline(line.ml, color=colour, ls="-" if name else "--", lw=1.4)
    axes.annotate(
        f"{name}{format_number(line.ml, 1, sign=True)}",
        (1, line.ml),
        xycoords=("axes fraction", "data"),
        xytext=(3, 0),
        textcoords="offset points",
        va="center",
        color=INK,
        fontsize=7.5,
    )


def make_chart(title: str, width: float, height: float) -> tuple[Any, Any]:
    """A matplotlib figure of this size in inches, and its axes, in the style of all charts; `to_svg` converts it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    axes.tick_params(colors=INK, labelsize=8)
    axes.grid(axis="y", color=INK, alpha=0.12, lw=0.6)
    axes.set_axisbelow(True)
    axes.set_title(title, loc="left", color=INK, fontsize=9.5, fontweight="bold")
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(color=INK, fontsize=8)
    return figure, axes


def to_svg(figure: Any, title: str) -> str:
    """The figure as an `<svg>` element with a `<title>` and without metadata.

    Its ids differ from those of charts with other titles on the same page.
    """
    import matplotlib as mpl

    target = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": title, "font.family": "sans-serif"}):
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(target, format="svg", metadata={**nothing, "Title": title})
    svg = target.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r' id="[\w.]+_\d+"', "", svg)  # text_1, FillBetweenPolyCollection_1, …: the same in every chart
    # With role="img" a screen reader says the <title> instead of every tick and number.
    return svg.replace("<svg ", '<svg role="img" ', 1).replace(INK, "currentColor")
