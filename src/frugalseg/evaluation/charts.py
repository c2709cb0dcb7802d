"""Small charts as inline SVG that take their text colour from the page, so that they work in light and dark."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

INK = "#010203"
"""Stands for the page's text colour until the SVG is written."""
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's colours, which colour-blind readers can tell apart."""

Curve = tuple[Sequence[float], Sequence[float]]


def line_chart(curves: Mapping[str, Curve], title: str, limits: tuple[float, float] | None = None) -> str:
    """Curves over training steps; name → (steps, values). Few points are marked. Returns SVG."""
    figure, axes = new_chart(title, 4.6, 2.5)
    for i, (name, (steps, values)) in enumerate(curves.items()):
        colour = COLOURS[i % len(COLOURS)]
        axes.plot(steps, values, color=colour, lw=1.6, marker="o" if len(steps) < 25 else None, ms=3.2, label=name)
    axes.set_xlabel("step")
    if limits is not None:
        axes.set_ylim(*limits)
    if len(curves) > 1:
        axes.legend(frameon=False, labelcolor=INK, fontsize=8)
    return to_svg(figure, title)


def histogram(values: Sequence[float], title: str) -> str:
    """How Dice values spread over 0…1, with a tick for every scan. Returns SVG."""
    figure, axes = new_chart(title, 4.6, 2.2)
    axes.hist(values, bins=np.linspace(0, 1, 21), color=COLOURS[0], alpha=0.75, rwidth=0.92)
    axes.plot(values, [0.03] * len(values), "|", color=INK, ms=9, mew=1, transform=axes.get_xaxis_transform())
    mean = float(np.mean(values))
    axes.margins(y=0.22)  # room for the label above the bars
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


def new_chart(title: str, width: float, height: float) -> tuple[Any, Any]:
    """A matplotlib figure, in inches, and its axes, in the style of all charts; `to_svg` makes a picture of it."""
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

    Its ids are its own among charts of other titles on a page.
    """
    import matplotlib as mpl

    target = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": title, "font.family": "sans-serif"}):
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(target, format="svg", metadata={**nothing, "Title": title})
    svg = target.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r' id="[\w.]+_\d+"', "", svg)  # text_1, FillBetweenPolyCollection_1, …: the same in every chart
    # The <title> is what a screen reader says of the picture, in place of every tick and number in it.
    return svg.replace("<svg ", '<svg role="img" ', 1).replace(INK, "currentColor")
