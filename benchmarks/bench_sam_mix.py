"""Time of a SAM-Mix step on one core: with LoRA in the encoder, and with a frozen encoder and stored feature maps.

CPU seconds of one thread, since these hardly depend on other load. The networks' weights are random: the time does not
depend on them. Measured in float32 and, if the CPU is fast at it, in bf16, as in a training. `--all` also measures the
step with the classifier at 256 pixels; `--vit-b` also measures SAM's ViT-B at 1024 pixels with one mask per step, which
takes minutes and 12 GB.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch
from transformers import SamConfig, SamModel

from frugalseg.engine.allocator import keep_freed_memory
from frugalseg.engine.device import arithmetic, autocast
from frugalseg.options import Precision
from frugalseg.promptable.huggingface import as_promptable
from frugalseg.promptable.litemedsam import LiteMedSAM, Network
from frugalseg.promptable.protocol import Promptable
from frugalseg.promptable.tinyvit import TinyViT
from frugalseg.sam_mix.branch import SamBranch
from frugalseg.sam_mix.classifier import Classifier
from frugalseg.sam_mix.losses import map_loss, mask_losses
from frugalseg.sam_mix.model import MixModel, PromptBatch
from frugalseg.text import pluralize
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
    bases: dict[str, Any] = {"LiteMedSAM": litemedsam}
    if "--vit-b" in sys.argv:
        bases["SAM ViT-B"] = vit_b
    fast = arithmetic("auto", CPU) == "bf16-mixed"
    for precision in ("32", "bf16") if fast else ("32",):
        show(f"SAM-Mix step on one core, {precision}", list(_rows(bases, cast(Precision, precision))))


def _rows(bases: dict[str, Any], precision: Precision) -> Iterator[tuple[str, str, str]]:
    for size in (128, 256):
        yield f"classifier, {SLICES} slices at {size}²", f"{_classifier(size, precision):.2f} s", ""
    for name, base in bases.items():
        masks = 1 if base is vit_b else MASKS
        for size in (128, 256, None) if "--all" in sys.argv else (128, None):
            lora, frozen = (_step(base, adapt, size, masks, precision) for adapt in ("lora", "decoder"))
            part = "SAM branch alone" if size is None else f"classifier at {size}²"
            measured = f"{lora:.2f} → {frozen:.2f} s ({lora / frozen:.1f}×)"
            yield f"{name}, {pluralize(masks, 'mask')}, {part}: lora → decoder", measured, "≥ 10×"


def _classifier(size: int, precision: Precision, steps: int = 3) -> float:
    network, slices = Classifier(1, size), torch.rand(SLICES, 1, SIDE, SIDE)

    def step() -> None:
        with autocast(precision, CPU):
            loss = network(slices).float().sum()
        loss.backward()

    return _median(step, steps)


def _step(base: Any, adapt: Any, size: int | None, masks: int, precision: Precision, steps: int = 1) -> float:
    """Seconds of one step; if `size` is None, of the SAM branch alone."""
    model = MixModel(Classifier(1, size or 32), SamBranch(base(), adapt, 8, "mask", 0.4), SIDE, 0.4).train()
    labelled, targets = torch.rand(masks, 1, SIDE, SIDE), torch.ones(masks, SIDE, SIDE)
    with torch.no_grad():
        maps = model.encode(labelled) if adapt == "decoder" else None
    boxes = torch.tensor([[20.0, 20, 80, 80]]).repeat(masks, 1)
    prompts = PromptBatch(
        labelled, torch.zeros(masks, dtype=torch.long), boxes, torch.ones(masks, dtype=torch.bool), maps
    )
    learning = [p for p in (model if size else model.branch).parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=1e-4, fused=True)

    def losses() -> torch.Tensor:
        if size is None:
            own = model.encode(labelled) if maps is None else maps
            logits, scores = model.decode(own, boxes, torch.rand(masks, SIDE, SIDE))
            return mask_losses(logits, scores, targets)["loss"]
        out = model(torch.rand(SLICES, 1, SIDE, SIDE), labelled, prompts)
        masked = mask_losses(out["masks"], out["scores"], targets)["loss"]
        return out["present"].sum() + map_loss(out["cams"], targets) + masked

    def step() -> None:
        with autocast(precision, CPU):
            loss = losses()
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
