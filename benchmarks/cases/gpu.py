"""What only a GPU shows: steps captured as CUDA graphs, and many trainings at a time. See gpu.sh."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import frugalseg
from cases.training import finetune_step, pretrain_step
from frugalseg.options import StudyOptions
from measure import OURS, Case, Setting, Skipped, Way, Work, timed

PLAN = """
data: {phantoms: {phantoms: 20, grid: [128, 128, 32], size: 128}}
train: phantoms
tests: {held out: {data: phantoms}}
pretrain: {steps: 500}
finetune: {steps: 300}
methods: {scratch: {}, polycl-m: {pretrain: {method: polycl-m}}}
budgets: ["1 scans", "3 scans", "20 slices"]
seeds: [0, 1, 2]
"""
MODELS, JOBS = 18, 8


def on_gpu(setting: Setting, way: Way, captured: bool = True, **options: Any) -> Work:
    """A way that is measured on a GPU only; without `captured`, capturing a CUDA graph fails as if memory were full."""
    if setting.device != "cuda":
        raise Skipped("needs --device cuda")
    import torch

    def refuse(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("no graphs in this benchmark")

    if not captured:
        torch.cuda.CUDAGraph.capture_begin = refuse  # type: ignore[method-assign]
    return way(setting, **options)


def study(setting: Setting) -> Work:
    """The small-ct study's shape: two methods, three budgets, three seeds, several trainings at a time."""
    plan = setting.once("gpu-plan.yaml", partial(Path.write_text, data=PLAN))
    options = {"plan": plan, "jobs": JOBS, "threads": 2}
    return timed(lambda: frugalseg.study(StudyOptions(**options, out=setting.empty("study"))), units=MODELS)


def captured_case(name: str, unit: str, way: Way) -> Case:
    return Case(
        f"{name}, captured",
        unit,
        {OURS: partial(on_gpu, way=way), "not captured": partial(on_gpu, way=way, captured=False)},
        memory=True,
    )


CASES = [
    captured_case("fine-tuning step", "10 slices of 128², robust", partial(finetune_step, backbone="unet")),
    captured_case("pre-training step", "20 triplets of 128²", partial(pretrain_step, method="polycl-m", size=128)),
    Case(f"study of {MODELS} models, {JOBS} at a time", "model", {OURS: partial(on_gpu, way=study)}),
]
