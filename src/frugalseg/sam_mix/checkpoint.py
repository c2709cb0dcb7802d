"""A trained SAM-Mix on disk: the trained weights; the base model is referred to, not copied.

classifier.safetensors   the classification branch
decoder.safetensors      prompt encoder and mask decoder
lora.safetensors         LoRA of the image encoder, where it was adapted
model.json               everything else, written last
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from frugalseg.engine.files import MODEL_FILE, atomic_write, sha256
from frugalseg.errors import OptionError, RunError
from frugalseg.models.saved import load_run_weights, load_weights
from frugalseg.promptable.load import load_promptable
from frugalseg.records.sam_mix import SamMixRecord, SamMixSettings
from frugalseg.sam_mix.branch import SamBranch
from frugalseg.sam_mix.classifier import Classifier
from frugalseg.sam_mix.lora import is_lora
from frugalseg.sam_mix.model import MixModel

FILES = ("classifier", "decoder", "lora")


def weight_file_of(name: str) -> str:
    """The file that a trained weight goes into."""
    if name.startswith("classifier."):
        return "classifier"
    return "lora" if is_lora(name) else "decoder"


def build_mix_model(settings: SamMixSettings, base: str, device: torch.device) -> MixModel:
    """A model with the base's weights, to be trained or to load trained weights into.

    Args:
        settings: of its parts.
        base: name, folder or file of the base model.
        device: for the model.

    Raises:
        OptionError, RunError: the base model is missing, damaged, or of a family that cannot be trained.
    """
    # In float32, so that the signature is the same on every device; the caller sets the precision.
    promptable = load_promptable(base, device, "32")
    branch = SamBranch(promptable, settings.adapt, settings.rank, settings.dense, threshold=settings.threshold)
    classifier = Classifier(settings.organs, settings.classifier_size, settings.map_stride)
    return MixModel(classifier, branch, settings.size, settings.threshold).to(device)


def save_mix(folder: Path, model: MixModel, record: SamMixRecord) -> None:
    """Write the trained weights, then model.json: a folder with model.json is complete."""
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in model.state_dict().items():
        parts.setdefault(weight_file_of(name), {})[name] = tensor.detach().cpu().contiguous()
    for part, weights in parts.items():
        with atomic_write(folder / f"{part}.safetensors") as file:
            file.write(save(weights, metadata={"base": record.base.signature}))
    record.write(folder / MODEL_FILE)


def load_mix(folder: Path, record: SamMixRecord, base: str | None, device: torch.device) -> MixModel:
    """The trained model of a run, in evaluation mode.

    Args:
        folder: the run.
        record: its model.json.
        base: name, folder or file of the base model; by default that of the training.
        device: for the model.

    Raises:
        RunError: the base model is not that of the training, or files are missing or damaged.
        OptionError: the base model is missing, or of a family that cannot be one.
    """
    try:
        model = build_mix_model(record.settings, base or record.base.given, device)
    except OptionError as error:
        raise OptionError(
            f"the base model of {folder}, {record.base.name}: {error.problem}",
            "give its folder or file by `frugalseg sam-mix predict --base`",
        ) from error
    check_base(folder, record, model.branch)
    weights: dict[str, Tensor] = {}
    for part in FILES:
        if part == "lora" and record.settings.adapt != "lora":
            continue
        weights |= load_weights(folder, f"{part}.safetensors")
    load_run_weights(model, weights, folder)
    return model.eval()


def check_base(folder: Path, record: SamMixRecord, branch: SamBranch) -> None:
    """Raise `RunError` unless the base model is the one that was trained on."""
    if branch.signature != record.base.signature:
        raise RunError(
            f"{folder} was trained on {record.base.name} with signature {record.base.signature}, "
            f"given is {branch.name} with {branch.signature}",
            "give the base model of the training by `frugalseg sam-mix predict --base`",
        )


def mix_weights_sha256(folder: Path) -> str:
    """SHA-256 of all trained weights."""
    digest = hashlib.sha256()
    for part in FILES:
        if (folder / f"{part}.safetensors").is_file():
            digest.update(f"{part} {sha256(folder / f'{part}.safetensors')}".encode())
    return digest.hexdigest()
