"""A trained network as two files: model.safetensors (weights) and model.json (everything else).

Together they are enough to predict. Nothing is unpickled.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from frugalseg.engine.files import atomic_write, read_json, write_json
from frugalseg.errors import RunError

WEIGHTS, SPEC = "model.safetensors", "model.json"


def save_model(folder: Path, model: nn.Module, spec: dict[str, Any]) -> None:
    """Write the weights, then the description: where model.json is, the model is whole."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with atomic_write(folder / WEIGHTS) as file:
        file.write(save(weights))
    write_json(folder / SPEC, spec)


def load_spec(folder: Path, kind: str) -> dict[str, Any]:
    """The description of a finished run of `kind` ("encoder" or "segmenter").

    Raises:
        RunError: no such folder, no finished run, or a run of the other kind.
    """
    made_by = {"encoder": "frugalseg pretrain", "segmenter": "frugalseg finetune"}
    if not (folder / SPEC).is_file():
        started = (folder / "config.yaml").is_file()
        raise RunError(
            f"{folder} {'is a run that has not finished' if started else 'holds no trained model (no model.json)'}",
            "finish it with --resume" if started else f"give a run folder of `{made_by[kind]}`",
        )
    spec: dict[str, Any] = read_json(folder / SPEC)
    if spec.get("kind") != kind:
        raise RunError(
            f"{folder} holds a model of kind {spec.get('kind')!r}, needed is {kind!r}",
            f"give a run folder of `{made_by[kind]}`",
        )
    return spec


def load_weights(folder: Path) -> dict[str, Tensor]:
    """The weights of a finished run; raises `RunError` when the file is missing or damaged."""
    try:
        weights: dict[str, Tensor] = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise RunError(f"{folder / WEIGHTS} cannot be read ({error})", "run the training again") from error
    return weights


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
