"""Draw docs/images/reliability.png: Dice promised and Dice measured, from docs/explanation/tables/promise/.

python benchmarks/draw_reliability.py
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from frugalseg.evaluation.charts import COLOURS

DOCS = Path(__file__).resolve().parents[1] / "docs"
TABLE = DOCS / "explanation" / "tables" / "promise" / "reliability.csv"
PICTURE = DOCS / "images" / "reliability.png"

PROMISES = (
    ("expected", "dice", "o", "expected Dice: mean that was measured"),
    ("bound", "dice_10th_percentile", "^", "lower bound: 10th percentile that was measured"),
)
"""Column of the promise, column of what should equal or exceed it, marker, and label."""


def main() -> None:
    """Draw the scans on the left and the slices on the right."""
    table = pd.read_csv(TABLE)
    figure = Figure(figsize=(9, 4.4), layout="constrained")
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    for axes, kind in zip(panels, ("scans", "slices"), strict=True):
        _draw_panel(axes, table[table["kind"] == kind], kind)
    panels[0].set_ylabel("measured Dice")
    panels[0].legend(frameon=False, fontsize=7.5, loc="upper left")
    figure.savefig(PICTURE, dpi=110)


def _draw_panel(axes: Axes, table: pd.DataFrame, kind: str) -> None:
    axes.plot([0, 1], [0, 1], color="0.6", lw=1, zorder=0)
    for colour, (place, rows) in zip(COLOURS, table.groupby("place", sort=False), strict=False):
        for promised, measured, marker, label in PROMISES:
            axes.plot(rows[promised], rows[measured], color=colour, lw=0.8, alpha=0.5)
            sizes = 12 + 160 * rows["share"]
            axes.scatter(
                rows[promised], rows[measured], sizes, color=colour, marker=marker, alpha=0.8, label=f"{place}, {label}"
            )
    axes.set(title=kind, xlabel="promised Dice", xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    main()
