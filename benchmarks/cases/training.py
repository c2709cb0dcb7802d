"""One step of every backbone and of every pre-training method, as the commands do it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, get_args

import frugalseg
from frugalseg.options import FinetuneOptions, PretrainOptions
from frugalseg.options.common import BackboneName
from frugalseg.options.pretrain import MethodName
from inputs import store
from measure import OURS, Case, Cost, Setting, Way, Work, median_step, timed

STEPS = 3
GPU_STEPS = 300
Train = Callable[[], Any]
"""Runs a training, and returns its run folder."""


@dataclass(frozen=True)
class Passes:
    """What a published pre-training does with a batch.

    Attributes:
        trained: passes through the network, each of one part of the triplets or of one view.
        momentum: passes through a momentum encoder.
        augmented: whether every slice of a pass is augmented.
    """

    trained: int
    momentum: int = 0
    augmented: bool = True


TRIPLETS, VIEWS = Passes(3, augmented=False), Passes(2)
PUBLISHED: dict[MethodName, Passes] = {
    **{"polycl-o": TRIPLETS, "polycl-s": TRIPLETS, "polycl-m": TRIPLETS, "random-pairs": TRIPLETS},
    **{"simclr": VIEWS, "supcon": VIEWS, "pcl": VIEWS, "gcl": VIEWS},
    **{"moco": Passes(1, momentum=1), "byol": Passes(2, momentum=2)},
}
"""The methods that were published with slices as samples, but SuperCL: its published way is an option."""


def last_report(run: Any) -> dict[str, float]:
    """The last line of a run's log."""
    line: dict[str, float] = json.loads((run.path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    return line


def step(setting: Setting, train: Train, batch: int) -> Work:
    """The cost of a step; on a GPU, where steps may be captured as a graph, by the run's own log."""

    def logged() -> Cost:
        seconds = batch / last_report(train())["samples_per_s"]
        return Cost(seconds, seconds)

    return logged if setting.device == "cuda" else lambda: median_step(train)


def finetune(setting: Setting, backbone: str, size: int = 128, **options: Any) -> Train:
    """A fine-tuning with batches of ten slices."""
    steps = setting.pick(GPU_STEPS if setting.device == "cuda" else STEPS, 2)
    data = store(setting, size)
    fixed = {"backbone": backbone, "steps": steps, "validate_every": min(steps, 100), "device": setting.device}
    return lambda: frugalseg.finetune(FinetuneOptions(data=data, out=setting.empty("run"), **fixed, **options))


def pretrain(setting: Setting, method: str, size: int, **options: Any) -> Train:
    """A pre-training of a U-Net with batches of 20."""
    steps = setting.pick(GPU_STEPS if setting.device == "cuda" else STEPS, 2)
    data, batch = store(setting, size), setting.pick(20, 8)
    fixed = {"method": method, "batch_size": batch, "steps": steps, "device": setting.device}
    return lambda: frugalseg.pretrain(PretrainOptions(data=data, out=setting.empty("run"), **fixed, **options))


def finetune_step(setting: Setting, backbone: str, **options: Any) -> Work:
    return step(setting, finetune(setting, backbone, **options), batch=10)


def pretrain_step(setting: Setting, method: str, size: int, **options: Any) -> Work:
    return step(setting, pretrain(setting, method, size, **options), batch=20)


def finetune_as_published(setting: Setting, backbone: str) -> Work:
    from cases import published

    return published.finetune(setting, backbone, setting.pick(128, 32), setting.pick(10, 2), setting.pick(STEPS, 2))


def pretrain_as_published(setting: Setting, method: MethodName, size: int) -> Work:
    from cases import published

    sizes = setting.pick(size, 32), setting.pick(20, 4), setting.pick(STEPS, 2)
    return published.pretrain(setting, PUBLISHED[method], *sizes)


def products_alone(setting: Setting, build: str, backbone: str, slices: int) -> Work:
    """The least time a step could take: as many operations as its convolutions and matrix products need, at the rate of
    a large matrix product in the faster of float32 and bf16."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from frugalseg.models import registry

    norm, size = registry.choose_norm(backbone, None, "instance_affine"), setting.pick(128, 32)
    if build == "encoder":
        network = registry.build_projection(backbone, norm)
    else:
        network = registry.build_segmenter(backbone, 1, norm)
    with FlopCounterMode(display=False) as counter:
        network(torch.rand(slices, 1, size, size)).sum().backward()
    side, device = setting.pick(2048 if setting.device == "cpu" else 8192, 64), setting.device

    def rate(kind: torch.dtype) -> float:
        factor = torch.rand(side, side, device=device).to(kind)
        product = timed(lambda: factor @ factor)
        cost = min((product() for _ in range(3)), key=lambda c: c.wall)
        return 2 * side**3 / (cost.wall if device == "cuda" else cost.cpu)

    def turn() -> Cost:
        seconds = counter.get_total_flops() / max(map(rate, (torch.float32, torch.bfloat16)))
        return Cost(seconds, seconds)

    return turn


def waiting(setting: Setting, share: bool) -> Work:
    """Seconds of a pre-training step by the run's log, or those that it waits for data."""
    train = pretrain(setting, "polycl-m", 128)

    def turn() -> Cost:
        record = last_report(train())
        seconds = 20 / record["samples_per_s"] * (record["wait"] if share else 1)
        return Cost(seconds, seconds)

    return turn


def backbone_case(backbone: str) -> Case:
    ways: dict[str, Way] = {
        OURS: partial(finetune_step, backbone=backbone),
        "published way": partial(finetune_as_published, backbone=backbone),
        "matrix products alone": partial(products_alone, build="segmenter", backbone=backbone, slices=10),
    }
    return Case(f"fine-tuning step, {backbone}", "10 slices of 128², robust", ways)


def method_case(method: MethodName, size: int = 64, others: Mapping[str, Way] | None = None) -> Case:
    ways: dict[str, Way] = {OURS: partial(pretrain_step, method=method, size=size)}
    if method == "supercl":
        online = {"superpixels": "online", "precision": "32"}
        ways["published way"] = partial(pretrain_step, method=method, size=size, **online)
        ways["15 % of pixels"] = partial(pretrain_step, method=method, size=size, intra_slices=0.15)
    elif method in PUBLISHED:
        ways["published way"] = partial(pretrain_as_published, method=method, size=size)
    name = f"pre-training step, {method}" + ("" if size == 64 else f", {size}²")
    return Case(name, f"batch of 20, {size}²", ways | dict(others or {}))


LARGE = {
    "float32": partial(pretrain_step, method="polycl-m", size=128, precision="32"),
    "matrix products alone": partial(products_alone, build="encoder", backbone="unet", slices=60),
}
CASES = [
    *map(backbone_case, get_args(BackboneName)),
    method_case("polycl-m", 128, LARGE),
    *map(method_case, get_args(MethodName)),
    Case(
        "waiting for data",
        "step of 20 triplets of 128²",
        {OURS: partial(waiting, share=False), "of which waiting": partial(waiting, share=True)},
        clock="wall",
    ),
]
