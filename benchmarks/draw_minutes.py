"""Draw docs/images/minutes.png: Dice against a person's minutes, from docs/explanation/tables/small-ct/.

python benchmarks/draw_minutes.py
"""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from doc_tables import recipe
from frugalseg.evaluation.charts import COLOURS

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "images" / "minutes.png"
METHODS = ("robust", "best", "best, refined")
PLACES = {"in domain": "", "another hospital": ", other hospital"}


def main() -> None:
    """Draw what was measured in domain on the left, in another hospital on the right."""
    head, *rows = recipe()
    columns = dict(zip(head, zip(*rows, strict=True), strict=True))
    minutes = [int(text) for text in columns["minutes of a person"]]
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (place, suffix) in zip(panels, PLACES.items(), strict=True):
        for method, colour in zip(METHODS, COLOURS, strict=False):
            dice = [float(text.strip("*")) for text in columns[method + suffix]]
            for kind, label in (("slice", method), ("scan", None)):  # a line joins budgets of one kind
                own = [i for i, outlined in enumerate(columns["outlined"]) if kind in outlined]
                axes.plot([minutes[i] for i in own], [dice[i] for i in own], marker="o", color=colour, label=label)
        axes.set(title=place, xlabel="minutes of a person", xscale="log", xlim=(3.7, 260))
        labels = [f"{m}\n{outlined}" for m, outlined in zip(minutes, columns["outlined"], strict=True)]
        axes.set_xticks(minutes, labels)
        axes.minorticks_off()
        axes.grid(axis="y", color="0.9")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("mean Dice of unseen patients, liver")
    panels[0].legend(frameon=False, loc="lower right")
    figure.savefig(PICTURE, dpi=110)


if __name__ == "__main__":
    main()
