"""A SAM-Mix step on one core: with LoRA in the encoder, and with a frozen encoder whose maps are kept.

CPU seconds of one thread, since those hardly depend on what else the machine does. The networks' weights are random:
time does not depend on them. `--all` also has the classifier at 256 pixels within the step; `--vit-b` also measures
SAM's ViT-B at 1024 pixels with one mask a step, which takes minutes and 12 GB.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from transformers import SamConfig, SamModel

from frugalseg.engine.allocator import keep_freed_memory
from frugalseg.sam.hf import as_promptable
from frugalseg.sam.litemedsam import LiteMedSAM, Network
from frugalseg.sam.mix.branch import SamBranch
from frugalseg.sam.mix.classifier import Classifier
from frugalseg.sam.mix.losses import map_loss, mask_losses
from frugalseg.sam.mix.model import Asked, MixModel
from frugalseg.sam.protocol import Promptable
from frugalseg.sam.tinyvit import TinyViT
from tables import show

CPU = torch.device("cpu")
SLICES, MASKS, SIDE = 8, 4, 128


def litemedsam() -> Promptable:
    return LiteMedSAM(Network(TinyViT()), "random", CPU, "32")


def vit_b() -> Promptable:
    return as_promptable(SamModel(SamConfig()), Path("sam-vit-base"), CPU, "32")


def main() -> None:
    keep_freed_memory()
    torch.set_num_threads(1)
    rows = [(f"classifier, {SLICES} slices at {size}²", f"{_classifier(size):.2f} s", "") for size in (128, 256)]
    bases: dict[str, Any] = {"LiteMedSAM": litemedsam}
    if "--vit-b" in sys.argv:
        bases["SAM ViT-B"] = vit_b
    for name, base in bases.items():
        masks = 1 if base is vit_b else MASKS
        for size in (128, 256) if "--all" in sys.argv else (128,):
            lora, frozen = (_step(base, adapt, size, masks) for adapt in ("lora", "decoder"))
            told = f"{lora:.2f} → {frozen:.2f} s ({lora / frozen:.1f}×)"
            rows.append((f"{name}, {masks} masks, classifier at {size}²: lora → decoder", told, "≥ 10×"))
        alone = [_step(base, adapt, None, masks) for adapt in ("lora", "decoder")]
        told = f"{alone[0]:.2f} → {alone[1]:.2f} s ({alone[0] / alone[1]:.1f}×)"
        rows.append((f"{name}, {masks} masks, SAM branch alone: lora → decoder", told, "≥ 10×"))
    show("SAM-Mix step on one core", rows)


def _classifier(size: int, steps: int = 3) -> float:
    network, slices = Classifier(1, size), torch.rand(SLICES, 1, SIDE, SIDE)
    return _median(lambda: network(slices).sum().backward(), steps)


def _step(base: Any, adapt: Any, size: int | None, masks: int, steps: int = 1) -> float:
    """One step; without a classifier's size the SAM branch alone."""
    model = MixModel(Classifier(1, size or 32), SamBranch(base(), adapt, 8, "mask", 0.4), SIDE, 0.4).train()
    labelled, targets = torch.rand(masks, 1, SIDE, SIDE), torch.ones(masks, SIDE, SIDE)
    with torch.no_grad():
        maps = model.encode(labelled) if adapt == "decoder" else None
    boxes = torch.tensor([[20.0, 20, 80, 80]]).repeat(masks, 1)
    asked = Asked(labelled, torch.zeros(masks, dtype=torch.long), boxes, torch.ones(masks, dtype=torch.bool), maps)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-4)

    def step() -> None:
        if size is None:
            own = model.encode(labelled) if maps is None else maps
            logits, scores = model.decode(own, boxes, torch.rand(masks, SIDE, SIDE))
            loss = mask_losses(logits, scores, targets)["loss"]
        else:
            out = model(torch.rand(SLICES, 1, SIDE, SIDE), labelled, asked)
            loss = (
                out["present"].sum()
                + map_loss(out["cams"], targets)
                + mask_losses(out["masks"], out["scores"], targets)["loss"]
            )
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return _median(step, steps)


def _median(work: Any, steps: int) -> float:
    work()
    seconds = []
    for _ in range(steps):
        begun = time.process_time()
        work()
        seconds.append(time.process_time() - begun)
    return statistics.median(seconds)


if __name__ == "__main__":
    main()
