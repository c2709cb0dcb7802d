"""A trained network as two files: model.safetensors (weights) and model.json (everything else).

Together they are enough to predict. Nothing is unpickled.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from frugalseg.engine.files import atomic_write, write_json
from frugalseg.engine.forms import SCALE, Form
from frugalseg.engine.run import SPEC
from frugalseg.errors import RunError
from frugalseg.imaging.intensity import IntensityScale
from frugalseg.models.registry import choose_norm
from frugalseg.options import Keep

WEIGHTS = "model.safetensors"

CURE = "copy the run folder again from an intact copy, or run the training again in another --out"

KIND = Form({"kind": str}, RunError, CURE)
"""What every model.json says; the rest depends on it."""

MOST_CONTEXT = 1000
"""No network sees more neighbours: a larger number is damage, and a network for it would not fit into memory."""

SHOWN_TO_IT = {"size": int, "intensity": SCALE}
MADE_FOR = {
    "targets": {str: [int]},
    "preprocessing": SHOWN_TO_IT,
    "keep": {str: str},
    "scans": [{"case": str, "fingerprint": str, "role": str}],
}
"""What a model that makes masks says of them, whichever kind it is."""


def makes_sense(spec: dict[str, Any]) -> None:
    """Raise where the values of a model.json that holds `MADE_FOR` cannot be."""
    IntensityScale.from_dict(spec["preprocessing"]["intensity"])
    if spec["preprocessing"]["size"] < 1 or not spec["targets"]:
        raise ValueError("a size below 1, or no organ")
    if missing := [organ for organ in spec["targets"] if spec["keep"].get(organ) not in get_args(Keep)]:
        raise ValueError(f"'keep' does not tell what to keep of the mask of {missing[0]}")


def _network_makes_sense(spec: dict[str, Any]) -> None:
    choose_norm(spec["backbone"], spec["norm"], spec["norm"])
    IntensityScale.from_dict(spec["preprocessing"]["intensity"])
    if not 0 <= spec["context"] <= MOST_CONTEXT:
        raise ValueError(f"'context' is {spec['context']}")
    if "keep" in spec:
        makes_sense(spec)


_NETWORK = {"backbone": str, "norm": str, "context": int}
FORMS = {
    "encoder": Form(
        {
            **_NETWORK,
            "preprocessing": {"intensity": SCALE},
            "annotation": {"organ_present_labels": int},
            "fingerprints": [str],
        },
        RunError,
        CURE,
        valid=_network_makes_sense,
    ),
    "segmenter": Form({**_NETWORK, **MADE_FOR}, RunError, CURE, valid=_network_makes_sense),
}
"""Kind → what its model.json holds."""


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
    found = KIND.read(folder / SPEC)["kind"]
    if found != kind:
        raise RunError(
            f"{folder} holds a model of kind {found!r}, needed is {kind!r}",
            f"give a run folder of `{made_by[kind]}`",
        )
    spec: dict[str, Any] = FORMS[kind].read(folder / SPEC)
    return spec


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
            f"{path} does not belong to {SPEC} beside it: {first} is {_told(weights, first)}, "
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
