"""Time of a training step in each precision: fine-tuning with 10 slices, pre-training with 20 triplets."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from frugalseg.dataset.augment import Augment
from frugalseg.dataset.source import Slices
from frugalseg.engine.cuda_graphs import capture
from frugalseg.engine.device import autocast, describe_device, find_device
from frugalseg.models.registry import build_projection, build_segmenter
from frugalseg.pretraining.loss import contrastive_loss, triplet_pairs
from frugalseg.segmentation.losses import make_loss
from frugalseg.segmentation.presets import PRESETS
from tables import median_seconds, show

SIZE = 128


def main() -> None:
    device = find_device("auto")
    rows = []
    for name, make in (("finetune, 10 slices, robust", _finetune), ("pretrain, 20 triplets", _pretrain)):
        step = make(device, recorded=False)
        exact, fast = (median_seconds(partial(step, p), repeats=5) for p in ("32", "bf16"))
        rows += [
            (f"{name}, float32", f"{1000 * exact:.0f} ms", ""),
            (f"{name}, bf16", f"{1000 * fast:.0f} ms ({exact / fast:.1f}× faster)", "about 1.9× faster"),
        ]
        if device.type == "cuda":
            replayed = median_seconds(partial(make(device, recorded=True), "bf16"), repeats=5)
            rows.append((f"{name}, bf16, CUDA graph", f"{1000 * replayed:.0f} ms ({fast / replayed:.1f}× faster)", ""))
    show(f"Training steps at {SIZE}² on {describe_device(device)}", rows)


def _recorded(model, shape, device):
    with autocast("bf16", device):
        capture(model, shape)


def _finetune(device, recorded):
    preset = PRESETS["robust"]
    model = build_segmenter("unet", 1, preset.norm).to(device)
    optimizer = preset.make_optimizer(model.parameters())
    loss, augment = make_loss(preset.loss), Augment("robust")
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.random((10, 1, SIZE, SIZE), dtype=np.float32)).to(device)
    batch = Slices(images, (images[:, 0] > 0.8).to(torch.uint8))
    if recorded:
        _recorded(model, images.shape, device)

    def step(precision: str) -> float:
        changed = augment(batch)
        with autocast(precision, device):
            logits = model(changed.images)
        value = loss(logits, changed.labels)["loss"]
        value.backward()
        optimizer.step()
        optimizer.zero_grad()
        return value.item()

    return step


def _pretrain(device, recorded):
    model = build_projection("unet", "instance_affine").to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    images = torch.rand(60, 1, SIZE, SIZE, device=device)
    pairs = triplet_pairs(20, device)
    if recorded:
        _recorded(model, images.shape, device)

    def step(precision: str) -> float:
        with autocast(precision, device):
            embeddings = model(images)
        value = contrastive_loss(embeddings, *pairs, tau=0.05)
        value.backward()
        optimizer.step()
        optimizer.zero_grad()
        return value.item()

    return step


if __name__ == "__main__":
    main()
