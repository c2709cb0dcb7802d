"""Draw docs/images/sam-mix.png: slices, what the classifier saw, its box, three masks with scores, the final mask.

    python benchmarks/draw_sam_mix.py RUN STORE PICTURE [BASE]

RUN is a run of `frugalseg sam-mix train` on STORE; the slices are of its test patients. Only data whose licence allows
it belong in the picture.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from frugalseg.dataset.store import SliceStore
from frugalseg.sam.mix.record import load_mix, load_mix_spec

ROWS = 3


def main(run: Path, store_folder: Path, picture: Path, base: str | None = None) -> None:
    spec = load_mix_spec(run)
    model = load_mix(run, spec, base, torch.device("cpu"))
    store = SliceStore.open(store_folder)
    organ = next(iter(spec["targets"]))
    test = [scan["case"] for scan in spec["scans"] if scan["role"] == "test"]
    table = store.slices[store.slices["case"].isin(test) & store.slices[f"has_{organ}"]]
    rows = table.index.to_numpy()[(np.linspace(0.2, 0.8, ROWS) * (len(table) - 1)).astype(int)]
    images = torch.from_numpy(store.images[rows].astype(np.float32))[:, None]
    found = model.find(images)
    final = found.classes()
    figure, axes = plt.subplots(ROWS, 6, figsize=(13, 2.35 * ROWS), layout="constrained", squeeze=False)
    for i, row in enumerate(rows):
        image, reference = images[i, 0].numpy(), np.asarray(store.labels[row]) == 1
        sought = torch.nonzero((found.slices == i) & (found.organs == 0))[:, 0]
        _show(axes[i, 0], image, f"p({organ}) {float(found.present[i, 0]):.2f}")
        axes[i, 0].imshow(found.cams[i, 0].numpy(), cmap="inferno", alpha=0.5)
        best = -1
        if len(sought):
            n = int(sought[0])
            x0, y0, x1, y1 = found.boxes[n].tolist()
            axes[i, 0].add_patch(Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, color="cyan"))
            best = int(found.scores[n].argmax())
        for m in range(3):
            title = ""
            if len(sought):
                title = f"m{m + 1}: score {float(found.scores[n, m]):.2f}" + (" ←" if m == best else "")
            _show(axes[i, 1 + m], image, title or "not asked")
            if len(sought):
                axes[i, 1 + m].contour(found.logits[n, m].numpy() > 0, [0.5], colors="yellow", linewidths=1)
        mask = final[i].numpy() == 1
        dice = 2 * (mask & reference).sum() / max(1, mask.sum() + reference.sum())
        for axis, shown, title in ((axes[i, 4], mask, f"final, Dice {dice:.2f}"), (axes[i, 5], reference, "reference")):
            _show(axis, image, title)
            if shown.any():
                axis.contour(shown, [0.5], colors="lime", linewidths=1)
    figure.savefig(picture, dpi=80)


def _show(axis: Axes, image: np.ndarray, title: str) -> None:
    axis.imshow(image, cmap="gray", vmin=0, vmax=1)
    axis.set_title(title, fontsize=9)
    axis.axis("off")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]), *sys.argv[4:5])
