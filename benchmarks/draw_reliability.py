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


def main() -> None:
    """Draw the scans on the left and the slices on the right."""
    table = pd.read_csv(TABLE)
    figure = Figure(figsize=(9, 4.6), layout="constrained")
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    for axes, kind in zip(panels, ("scans", "slices"), strict=True):
        _draw_panel(axes, table[table["kind"] == kind], kind)
    panels[0].set_ylabel("measured Dice")
    panels[0].legend(frameon=False, fontsize=9, loc="upper left")
    figure.savefig(PICTURE, dpi=110)


def _draw_panel(axes: Axes, table: pd.DataFrame, kind: str) -> None:
    """A dot for the mean Dice of each tenth, a line down to its 10th percentile, and a dash at the mean bound."""
    axes.plot([0, 1], [0, 1], color="0.6", lw=1, zorder=0)
    for number, (place, rows) in enumerate(table.groupby("place", sort=False)):
        colour = COLOURS[number]
        at = rows["expected"] + 0.012 * (number - 0.5)
        axes.vlines(at, rows["dice_10th_percentile"], rows["dice"], color=colour, lw=1.2)
        axes.scatter(at, rows["dice"], 14 + 150 * rows["share"], color=colour, label=place)
        axes.scatter(at, rows["bound"], 90, color=colour, marker="_", lw=2)
    axes.set(title=kind, xlabel="expected Dice", xlim=(0, 1), ylim=(-0.02, 1), aspect="equal")
    axes.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    main()
