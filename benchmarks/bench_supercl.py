"""Time of SLIC, and of a SuperCL and a SimCLR step on the same batch: views, loss, gradients, optimiser.

CPU seconds of one thread, since these hardly depend on other load.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from frugalseg.dataset.superpixels import Slic
from frugalseg.engine.allocator import keep_freed_memory
from frugalseg.engine.device import autocast
from frugalseg.models.registry import build_projection
from frugalseg.options import Precision, PretrainOptions
from frugalseg.pretraining.methods import METHODS, LearnerSettings
from frugalseg.pretraining.slice_metadata import SliceMetadata
from frugalseg.pretraining.views import make_views
from tables import show

BATCH, STEPS = 20, 3
CPU = torch.device("cpu")


def main() -> None:
    keep_freed_memory()
    torch.set_num_threads(1)
    rows = [_slic_row(segments) for segments in (25, 100)]
    for backbone in ("unet", "supercl-unet"):
        for size, precision in ((128, "32"), (128, "bf16"), (256, "bf16"))[: 3 if backbone == "unet" else 2]:
            simple = _step("simclr", backbone, size, precision)
            for share, aim in ((1.0, "–"), (0.15, "≤ 1.6×")):
                ours = _step("supercl", backbone, size, precision, intra_slices=share)
                measured = f"{1000 * simple:.0f} → {1000 * ours:.0f} ms ({ours / simple:.2f}×)"
                what = f"{backbone}, {BATCH} slices of {size}², {precision}: SimCLR → SuperCL, pixels of {share:.0%}"
                rows.append((what, measured, aim))
    show("SuperCL on one core", rows)


def _slic_row(segments: int) -> tuple[str, str, str]:
    slic = Slic.for_size(256, segments, 10.0)
    pictures = [_picture(256, seed) for seed in range(8)]
    slic(pictures[0])
    seconds = []
    for picture in pictures:
        begun = time.process_time()
        slic(picture)
        seconds.append(time.process_time() - begun)
    return (f"SLIC, 256², {segments} segments", f"{1000 * statistics.median(seconds):.0f} ms", "≤ 60 ms")


def _picture(size: int, seed: int) -> np.ndarray:
    """An image of blobs of several sizes and noise."""
    noise = np.random.default_rng(seed).standard_normal((3, size, size))
    blobs = sum(s * gaussian_filter(one, s) for one, s in zip(noise, (2, 8, 24), strict=True))
    return ((blobs - blobs.min()) / np.ptp(blobs)).astype(np.float32)


def _step(name: str, backbone: str, size: int, precision: Precision, **more: float) -> float:
    torch.manual_seed(0)
    method = METHODS[name]
    options = PretrainOptions(data=Path("-"), out=Path("-"), method=name, backbone=backbone, **more)
    network = build_projection(backbone, "batch")
    network.head = method.head.build(network.encoder.embedding_dim, 1)
    learner = method.learner(network, LearnerSettings(options, method.recipe.tau, STEPS, method.views))
    changes = method.changes[method.recipe.augment]()
    optimizer = torch.optim.SGD(learner.parameters(), lr=1e-3)
    pictures = [_picture(size, seed) for seed in range(BATCH)]
    images = torch.from_numpy(np.stack(pictures)[:, None])
    superpixels = torch.from_numpy(np.stack([Slic.for_size(size, None, 10.0)(p) for p in pictures]).astype(np.int16))
    rows = torch.arange(BATCH)
    place = rows / BATCH
    metadata = SliceMetadata(rows, rows * 0, rows * 0, torch.zeros(BATCH, 0), place, place, rows * 0)

    def step() -> float:
        begun = time.process_time()
        views = make_views(images, method.views, changes)
        with autocast(precision, CPU):
            outputs = learner(views)
        learner.losses(outputs, metadata, rows.repeat(method.views), superpixels)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        return time.process_time() - begun

    step()
    return statistics.median(step() for _ in range(STEPS))


if __name__ == "__main__":
    main()
