"""LiteMedSAM with its published weights: time of encoding and decoding, peak memory, and Dice with reference boxes.

The weights are downloaded to the weights folder if they are not installed.
"""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

import torch

from frugalseg.engine.device import describe, find_device
from frugalseg.imaging.read import read_labels, read_volume
from frugalseg.imaging.volume import axial_slices, canonical
from frugalseg.options import WeightsFetchOptions
from frugalseg.promptable.framing import Frame
from frugalseg.promptable.load import load_promptable
from frugalseg.promptable.protocol import Prompts
from frugalseg.weights.commands import weights_fetch
from tables import show

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "totalsegmentator_example"
ORGANS = {"liver": 5, "spleen": 1, "stomach": 6}
BOXES = 16


def main() -> None:
    weights_fetch(WeightsFetchOptions(name="litemedsam"))
    device = find_device("auto")
    rows = []
    for precision in ("32", "bf16"):
        model = load_promptable("litemedsam", device, precision)
        slices = torch.rand(1, 256, 256, generator=torch.Generator().manual_seed(0))
        pixels = Frame.of((256, 256), model.recipe).pixels(slices, model.recipe)
        corners = torch.randint(0, 120, (BOXES, 2), generator=torch.Generator().manual_seed(0)).float()
        prompts = Prompts(torch.zeros(BOXES, dtype=torch.long), boxes=torch.cat([corners, corners + 100], dim=1))
        embedding = model.encode(pixels)
        targets = ("≤ 1.0 s", "≤ 0.3 s") if precision == "bf16" else ("", "")
        rows.append((f"encode a slice, {precision}", quickest(lambda m=model, p=pixels: m.encode(p)), targets[0]))
        decode = quickest(lambda m=model, e=embedding, p=prompts: m.decode(e, p))
        rows.append((f"decode {BOXES} boxes, {precision}", decode, targets[1]))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rows.append(("peak memory", f"{peak:.0f} MB", ""))
    if DATA.is_dir():
        rows += outlines(load_promptable("litemedsam", device))
    busy = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    show(f"LiteMedSAM on {describe(device)}{busy}", rows)


def quickest(work, repeats: int = 7) -> str:
    """Minimum wall and CPU time over some repeats; they differ if other programs use the cores."""
    wall, cpu = [], []
    work()
    for _ in range(repeats):
        begun, used = time.perf_counter(), time.process_time()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        wall.append(time.perf_counter() - begun)
        cpu.append(time.process_time() - used)
    return f"{min(wall):.3f} s (CPU time {min(cpu):.3f} s)"


def outlines(model) -> list[tuple[str, str, str]]:
    """Dice per slice with boxes around the reference, on a CT of 20 slices."""
    scan = axial_slices(canonical(read_volume(DATA / "dicom_ct"))[0].array).astype("float32")
    labels = axial_slices(canonical(read_labels(DATA / "example_seg_dicom.nii.gz"))[0].array)
    grey = torch.from_numpy(((scan + 160) / 400).clip(0, 1))
    frame = Frame.of(tuple(grey.shape[1:]), model.recipe)
    found = {organ: [] for organ in ORGANS}
    for z in range(len(grey)):
        truths = {organ: torch.from_numpy(labels[z] == value) for organ, value in ORGANS.items()}
        truths = {organ: truth for organ, truth in truths.items() if truth.sum() >= 50}
        if not truths:
            continue
        boxes = frame.boxes_in(torch.stack([box_of(truth) for truth in truths.values()]))
        embedding = model.encode(frame.pixels(grey[z : z + 1], model.recipe))
        logits, _ = model.decode(embedding, Prompts(torch.zeros(len(boxes), dtype=torch.long), boxes=boxes)).best()
        for (organ, truth), mask in zip(truths.items(), frame.masks_out(logits).cpu() > 0, strict=True):
            found[organ].append(float(2 * (mask & truth).sum() / (mask.sum() + truth.sum())))
    return [
        (
            f"Dice of {organ}, boxes of the reference, {len(dices)} slices",
            f"{sum(dices) / len(dices):.3f} (minimum {min(dices):.3f})",
            "≥ 0.96" if organ == "liver" else "",
        )
        for organ, dices in found.items()
        if dices
    ]


def box_of(mask):
    """x0, y0, x1, y1 of a mask, maxima exclusive."""
    rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
    return torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


if __name__ == "__main__":
    main()
