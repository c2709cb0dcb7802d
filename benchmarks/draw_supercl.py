"""Draw docs/images/supercl.png: a slice, its superpixels, the pixels L_intra compares, and the groups of a batch.

    python benchmarks/draw_supercl.py STORE RUN PICTURE

STORE has superpixels; RUN is a pre-training by supercl on it. Use only data whose licence allows publication.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from skimage.segmentation import mark_boundaries

from frugalseg.dataset.store import SliceStore
from frugalseg.models.registry import build_projection
from frugalseg.models.saved import load_encoder, read_network_record
from frugalseg.pretraining.supercl import nearest_neighbour_groups, superpixel_means, superpixels_of_cells
from frugalseg.pretraining.views import VIEW_GROUPS
from frugalseg.records.networks import EncoderRecord

SLICES, CELLS = 12, 32


def main(store_folder: Path, run: Path, picture: Path) -> None:
    store = SliceStore.open(store_folder)
    record = read_network_record(EncoderRecord, run)
    network = build_projection(record.backbone, record.norm).eval()
    load_encoder(network.encoder, run)
    rng = np.random.default_rng(2)
    rows = np.sort(rng.choice(len(store.slices), SLICES, replace=False))
    images = torch.from_numpy(store.images[rows].astype(np.float32))[:, None]
    superpixels = torch.from_numpy(store.superpixels[rows].astype(np.int16))
    torch.manual_seed(0)
    views = VIEW_GROUPS["strong"]()(images.repeat(4, 1, 1, 1))
    v1, _, i1, i2 = views.chunk(4)
    with torch.no_grad():
        means = torch.cat([network.encoder(view)[-1].mean(dim=1) for view in (i1, i2)])
    stride = network.encoder.stride
    labels = superpixels_of_cells(superpixels.repeat(2, 1, 1), stride, means.shape[-2:])
    average = superpixel_means(means, labels, "cluster")
    groups = nearest_neighbour_groups(average)[:SLICES].numpy()

    figure = plt.figure(figsize=(12, 7), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(1, 1.7))
    one = SLICES // 2
    _first_row(top, store, one, images, superpixels, i1, i2, v1)
    _groups(bottom, images, groups, store, rows)
    figure.savefig(picture, dpi=80)


def _first_row(top, store, one, images, superpixels, i1, i2, v1) -> None:
    axes = top.subplots(1, 5)
    image, regions = images[one, 0].numpy(), superpixels[one].numpy()
    titles = (
        "a slice",
        f"its {regions.max() + 1} superpixels",
        "I1: pixels of L_intra",
        "I2: the same pixels",
        "V1: I1 moved",
    )
    pictures = (image, mark_boundaries(image, regions, color=(1, 0.8, 0)), i1[one, 0], i2[one, 0], v1[one, 0])
    for axis, title, shown in zip(axes, titles, pictures, strict=True):
        axis.imshow(shown, cmap="gray", vmin=0, vmax=1)
        axis.set_title(title, fontsize=10)
        axis.set_axis_off()
    side = store.size // 4
    labels = superpixels_of_cells(superpixels[one : one + 1], 1, (side, side))[0].numpy()
    inside = np.flatnonzero(images[one, 0, 2::4, 2::4].numpy().ravel() > 0.1)
    cells = np.random.default_rng(0).choice(inside, CELLS, replace=False)
    y, x = 4 * (cells // side) + 2, 4 * (cells % side) + 2
    colours = plt.get_cmap("tab20")(labels.ravel()[cells] % 20)
    for axis in axes[2:4]:
        axis.scatter(x, y, c=colours, s=22, edgecolors="white", linewidths=0.5)


def _groups(bottom, images, groups, store, rows) -> None:
    bottom.suptitle(
        "a batch: frames of one colour are one group of L_inter (height in the scan above each)", fontsize=10
    )
    axes = bottom.subplots(2, SLICES // 2)
    names = {group: i for i, group in enumerate(np.unique(groups))}
    for axis, image, group, row in zip(axes.flat, images[:, 0], groups, rows, strict=True):
        axis.imshow(image, cmap="gray", vmin=0, vmax=1)
        axis.set_title(f"{store.slices.loc[row, 'case']}, {store.slices.loc[row, 'position']:.2f}", fontsize=8)
        axis.set_xticks([])
        axis.set_yticks([])
        for spine in axis.spines.values():
            spine.set_color(plt.get_cmap("tab20")(names[group] % 20))
            spine.set_linewidth(4)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
