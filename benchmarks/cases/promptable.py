"""LiteMedSAM on slices, and the commands that use it."""

from __future__ import annotations

from functools import partial
from typing import Any

import frugalseg
from frugalseg.options import PropagateOptions, RefineOptions, SamMixTrainOptions
from inputs import LIVER, Scans, scans, store
from measure import OURS, Case, Setting, Skipped, Way, Work, median_step, timed

BOXES = 16


def need_weights() -> None:
    """Raise `Skipped` unless LiteMedSAM's weights are installed."""
    from frugalseg.weights.folder import weights_folder

    if not (weights_folder() / "litemedsam").is_dir():
        raise Skipped("LiteMedSAM's weights are not installed: `frugalseg weights fetch litemedsam`")


def litemedsam(setting: Setting, precision: str) -> tuple[Any, Any]:
    """The model, and one slice as it sees it."""
    import torch

    from frugalseg.promptable.load import load_promptable

    need_weights()
    model = load_promptable("litemedsam", torch.device(setting.device), precision)
    return model, torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))


def encode(setting: Setting, precision: str = "auto") -> Work:
    model, pixels = litemedsam(setting, precision)
    model.encode(pixels)
    return timed(lambda: model.encode(pixels))


def decode(setting: Setting, precision: str = "auto") -> Work:
    import torch

    from frugalseg.promptable.protocol import Prompts

    model, pixels = litemedsam(setting, precision)
    corners = torch.randint(0, 120, (BOXES, 2), generator=torch.Generator().manual_seed(0)).float()
    prompts = Prompts(torch.zeros(BOXES, dtype=torch.long), boxes=torch.cat([corners, corners + 100], dim=1))
    embedding = model.encode(pixels)
    model.decode(embedding, prompts)
    return timed(lambda: model.decode(embedding, prompts))


def small_scan(setting: Setting) -> Scans:
    """A phantom of 20 slices."""
    need_weights()
    return scans(setting, 1, (256, 256, 20), smoke=(48, 48, 2))


def refine(setting: Setting, cached: bool = False) -> Work:
    """All organs; `cached` takes the embeddings from an earlier run."""
    scan = small_scan(setting)
    given = {"images": scan.images, "masks": scan.labels, "device": setting.device}
    cache = setting.folder / "embeddings" if cached else None

    def run() -> None:
        frugalseg.refine(RefineOptions(**given, cache=cache, out=setting.empty("refined")))

    if cached:
        run()
    return timed(run)


def propagate(setting: Setting) -> Work:
    """The liver of the middle slice."""
    scan = small_scan(setting)
    given = {"images": scan.images, "annotations": scan.labels, "target": [LIVER], "device": setting.device}
    middle = str(scan.shape[2] // 2)
    return timed(lambda: frugalseg.propagate(PropagateOptions(**given, slices=middle, out=setting.empty("propagated"))))


def sam_mix_step(setting: Setting, adapt: str) -> Work:
    """Eight slices for a classifier at 128², and four with masks for the SAM branch."""
    need_weights()
    data, steps = store(setting, 128, cases=4, slices=8), setting.pick(3, 2)  # every slice is encoded before the steps
    given = {"adapt": adapt, "classifier_size": setting.pick(128, 32), "device": setting.device}
    given |= {"steps": steps, "validate_every": steps, "budget": "4 slices"}
    return lambda: median_step(
        lambda: frugalseg.sam_mix_train(SamMixTrainOptions(data=data, out=setting.empty("run"), **given))
    )


def in_float32(way: Any) -> dict[str, Way]:
    """A way in the precision that the processor is fast at, and in float32."""
    return {OURS: way, "float32": partial(way, precision="32")}


CASES = [
    Case("encode", "slice of 256², LiteMedSAM", in_float32(encode)),
    Case("decode", f"{BOXES} boxes, LiteMedSAM", in_float32(decode)),
    Case(
        "refine",
        "scan of 256×256×20, nine organs",
        {OURS: refine, "from the cache": partial(refine, cached=True)},
        memory=True,
    ),
    Case("propagate", "scan of 256×256×20, one organ", {OURS: propagate}, memory=True),
    Case(
        "SAM-Mix step",
        "8 slices of 128², 4 masks",
        {OURS: partial(sam_mix_step, adapt="decoder"), "with LoRA": partial(sam_mix_step, adapt="lora")},
    ),
]
