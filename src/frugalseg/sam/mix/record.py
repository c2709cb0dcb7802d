"""A trained SAM-Mix on disk: what was learned, apart from the base model, which is named and not copied.

classifier.safetensors   the classification branch
decoder.safetensors      prompt encoder and mask decoder
lora.safetensors         LoRA of the image encoder, where it was adapted
model.json               everything else, written last of all
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from frugalseg.engine.files import atomic_write, read_json, sha256, write_json
from frugalseg.errors import OptionError, RunError
from frugalseg.models.saved import SPEC
from frugalseg.sam.load import load_promptable
from frugalseg.sam.mix.branch import SamBranch
from frugalseg.sam.mix.classifier import Classifier
from frugalseg.sam.mix.handover import KIND
from frugalseg.sam.mix.lora import is_lora
from frugalseg.sam.mix.model import MixModel

FILES = ("classifier", "decoder", "lora")


def part_of(name: str) -> str:
    """The file that a trained weight goes into."""
    if name.startswith("classifier."):
        return "classifier"
    return "lora" if is_lora(name) else "decoder"


def build(settings: dict[str, Any], base: str, device: torch.device) -> MixModel:
    """A model to be trained, or to be filled with trained weights.

    Args:
        settings: under "adapt", "rank", "dense", "threshold", "classifier_size", "organs" and "size".
        base: name, folder or file of the base model.
        device: where it will work.

    Raises:
        OptionError, RunError: the base model is not there, damaged, or of a family that cannot be trained.
    """
    # In float32: the signature then is the same on every device, and arithmetic is the caller's matter.
    promptable = load_promptable(base, device, "32")
    branch = SamBranch(
        promptable, settings["adapt"], settings["rank"], settings["dense"], threshold=settings["threshold"]
    )
    classifier = Classifier(settings["organs"], settings["classifier_size"])
    return MixModel(classifier, branch, settings["size"], settings["threshold"]).to(device)


def save_mix(folder: Path, model: MixModel, spec: dict[str, Any]) -> None:
    """Write what was learned, then the description: where model.json is, the model is whole."""
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in model.state_dict().items():
        parts.setdefault(part_of(name), {})[name] = tensor.detach().cpu().contiguous()
    for part, weights in parts.items():
        with atomic_write(folder / f"{part}.safetensors") as file:
            file.write(save(weights, metadata={"base": spec["base"]["signature"]}))
    write_json(folder / SPEC, spec)


def load_mix_spec(folder: Path) -> dict[str, Any]:
    """model.json of a finished run.

    Raises:
        RunError: no such folder, no finished run, or a run of another kind.
    """
    if not (folder / SPEC).is_file():
        started = (folder / "config.yaml").is_file()
        raise RunError(
            f"{folder} {'is a run that has not finished' if started else 'holds no trained model (no model.json)'}",
            "finish it with --resume" if started else "give a run folder of `frugalseg sam-mix train`",
        )
    spec: dict[str, Any] = read_json(folder / SPEC)
    if spec.get("kind") != KIND:
        raise RunError(
            f"{folder} holds a model of kind {spec.get('kind')!r}, needed is {KIND!r}",
            "give a run folder of `frugalseg sam-mix train`, or use `frugalseg predict`",
        )
    return spec


def load_mix(folder: Path, spec: dict[str, Any], base: str | None, device: torch.device) -> MixModel:
    """The trained model of a run, in evaluation mode.

    Args:
        folder: the run.
        spec: its model.json.
        base: where the base model is now; by default where it was.
        device: where to work.

    Raises:
        RunError: the base model is another one than in training, or files are missing or damaged.
        OptionError: the base model is not there, or cannot be one.
    """
    try:
        model = build(spec["settings"], base or spec["base"]["given"], device)
    except OptionError as error:
        raise OptionError(
            f"the base model of {folder}, {spec['base']['name']}: {error.problem}",
            "say where it is by `frugalseg sam-mix predict --base`",
        ) from error
    check_base(folder, spec, model.branch)
    weights: dict[str, Tensor] = {}
    for part in FILES:
        if part == "lora" and spec["settings"]["adapt"] != "lora":
            continue
        path = folder / f"{part}.safetensors"
        try:
            weights |= load_file(path)
        except (OSError, SafetensorError) as error:
            raise RunError(f"{path} cannot be read ({error})", "run the training again") from error
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise RunError(f"{folder} does not fit its base model ({error})", "run the training again") from error
    return model.eval()


def check_base(folder: Path, spec: dict[str, Any], branch: SamBranch) -> None:
    """Raise `RunError` unless the base model is the one that was trained on."""
    if branch.signature != spec["base"]["signature"]:
        raise RunError(
            f"{folder} was trained on {spec['base']['name']} with signature {spec['base']['signature']}, "
            f"given is {branch.name} with {branch.signature}",
            "give the very same base model by `frugalseg sam-mix predict --base`",
        )


def weights_sha256(folder: Path) -> str:
    """SHA-256 over all that was learned."""
    digest = hashlib.sha256()
    for part in FILES:
        if (folder / f"{part}.safetensors").is_file():
            digest.update(f"{part} {sha256(folder / f'{part}.safetensors')}".encode())
    return digest.hexdigest()
