"""How scans are shown to a promptable model, and what the note beside its masks says of that."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from frugalseg.dataset.modality import scale_of
from frugalseg.options import PromptableOptions
from frugalseg.sam.protocol import Recipe


def settings_of(options: PromptableOptions, *apart: str) -> dict[str, Any]:
    """The options that change the result, for the note; `apart` are noted elsewhere."""
    no_matter = {"images", "out", "case", "target", "model", "device", "threads", "batch_size", "cache"}
    no_matter |= {"overwrite", "resume"}
    left = {name: value for name, value in asdict(options).items() if name not in no_matter | set(apart)}
    told: dict[str, Any] = json.loads(json.dumps(left, default=str))
    return told


def promptable_of(options: PromptableOptions, model: Any) -> dict[str, Any]:
    """The model, its recipe and how scans are shown to it, for the note."""
    recipe: Recipe = model.recipe
    return {
        "model": options.model,
        "name": model.name,
        "signature": model.signature,
        "recipe": json.loads(json.dumps(asdict(recipe))),
        "shown": scale_of(options).to_dict(),
    }
