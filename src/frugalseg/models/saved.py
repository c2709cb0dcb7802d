"""A trained network as two files: model.safetensors (weights) and model.json (everything else).

Together they are enough to predict. Nothing is unpickled.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from frugalseg.engine.files import MODEL_FILE, atomic_write
from frugalseg.errors import OptionError, RunError
from frugalseg.models.registry import choose_norm
from frugalseg.records.model import NetworkRecord

WEIGHTS = "model.safetensors"

CURE = NetworkRecord.CURE
N = TypeVar("N", bound=NetworkRecord)


def save_model(folder: Path, model: nn.Module, record: NetworkRecord) -> None:
    """Write the weights, then the description: where model.json is, the model is whole."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with atomic_write(folder / WEIGHTS) as file:
        file.write(save(weights))
    record.write(folder / MODEL_FILE)


def read_network(kind: type[N], folder: Path) -> N:
    """The record of a finished run, of a network that can be built.

    Args:
        kind: of record.
        folder: the run.

    Raises:
        RunError: no such folder, no finished run, or one of another kind; the file is damaged, or names no backbone
            or norm there is.
    """
    record = kind.read_run(folder)
    try:
        choose_norm(record.backbone, record.norm, record.norm)
    except OptionError as error:
        raise RunError(f"{folder / MODEL_FILE} is damaged: {error.problem}", CURE) from error
    return record


def load_weights(folder: Path, name: str = WEIGHTS) -> dict[str, Tensor]:
    """Weights of a finished run; raises `RunError` where the file is missing or damaged, or a value is not finite."""
    path = folder / name
    try:
        weights: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise RunError(f"{path} cannot be read ({error})", CURE) from error
    check_finite(weights, path)
    return weights


def check_finite(weights: Mapping[str, Tensor], path: Path) -> None:
    """Raise `RunError` where a weight that was read from a file is infinite or no number."""
    for name, tensor in weights.items():
        if not bool(torch.isfinite(tensor).all()):
            raise RunError(f"{path} is damaged: {name} holds values that are not finite", CURE)


def fill(network: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    """Load weights that must be exactly the network's; raises `RunError` where they are not, naming the first."""
    expected = network.state_dict()
    differing = {n for n in weights.keys() | expected.keys() if _shape(weights, n) != _shape(expected, n)}
    if differing:
        first = min(differing)
        raise RunError(
            f"{path} does not belong to {MODEL_FILE} beside it: {first} is {_told(weights, first)}, "
            f"expected {_told(expected, first)}",
            CURE,
        )
    network.load_state_dict(dict(weights))


def _told(weights: Mapping[str, Tensor], name: str) -> str:
    return f"of shape {_shape(weights, name)}" if name in weights else "not there"


def _shape(weights: Mapping[str, Tensor], name: str) -> tuple[int, ...] | None:
    return tuple(weights[name].shape) if name in weights else None


def load_encoder(encoder: nn.Module, folder: Path) -> None:
    """Load the encoder of a pre-training run.

    An encoder trained without learned scale and shift fits one with them: they start as the identity, so
    nothing changes. Every other difference is an error.

    Raises:
        RunError: the weights are of another network or normalisation.
    """
    prefix = "encoder."
    weights = {name[len(prefix) :]: t for name, t in load_weights(folder).items() if name.startswith(prefix)}
    expected = encoder.state_dict()
    differing = {
        n
        for n in weights.keys() | expected.keys()
        if n not in weights or n not in expected or weights[n].shape != expected[n].shape
    }
    identity_at_start = {
        f"{name}.{parameter}"
        for name, module in encoder.named_modules()
        if isinstance(module, nn.InstanceNorm2d) and module.affine
        for parameter in ("weight", "bias")
    }
    if unexplained := differing - (identity_at_start - weights.keys()):
        raise RunError(
            f"the encoder in {folder} does not fit this network (first difference: {min(unexplained)})",
            "give `finetune` the --norm and --backbone of the pre-training",
        )
    encoder.load_state_dict(weights, strict=False)
