"""A trained network as two files: model.safetensors (weights) and model.json (everything else).

Prediction needs only these two. Nothing is unpickled.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from frugalseg.engine.files import MODEL_FILE, atomic_write
from frugalseg.errors import OptionError, RunError
from frugalseg.models.registry import BACKBONES, choose_norm
from frugalseg.models.weight_files import check_finite, load_strictly
from frugalseg.plugins import PluginOrigin, describe_failures
from frugalseg.records.networks import NetworkRecord, SegmenterRecord

WEIGHTS = "model.safetensors"

CURE = NetworkRecord.CURE
N = TypeVar("N", bound=NetworkRecord)


def save_model(folder: Path, model: nn.Module, record: NetworkRecord) -> None:
    """Write the weights, then model.json: where model.json exists, the model is complete."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with atomic_write(folder / WEIGHTS) as file:
        file.write(save(weights))
    record.write(folder / MODEL_FILE)


def read_network_record(kind: type[N], folder: Path) -> N:
    """Read the record of a finished run, and check that its network can be built.

    Args:
        kind: class of the record.
        folder: the run folder.

    Raises:
        RunError: the folder is missing, no finished run, or a run of another kind; or the file is damaged, or names an
            unknown backbone or norm.
    """
    record = kind.read_run(folder)
    if isinstance(record, SegmenterRecord) and record.frozen_encoder is not None:
        return record  # its decoder can be built with every norm
    try:
        choose_norm(record.backbone, record.norm, record.norm)
    except OptionError as error:
        if record.plugin is not None and record.backbone not in BACKBONES:
            raise _missing_plugin_error(folder, record, record.plugin) from error
        raise RunError(f"{folder / MODEL_FILE} is damaged: {error.problem}", CURE) from error
    return record


def _missing_plugin_error(folder: Path, record: NetworkRecord, plugin: PluginOrigin) -> RunError:
    installed = f"install {plugin.package} {plugin.version}, or " if plugin.package else ""
    problem = f"{folder} needs the backbone {record.backbone!r} of the plug-in {plugin}, which is missing"
    return RunError(
        problem + describe_failures(),
        f"{installed}name the plug-in by --plugin {plugin.module}, in Python by frugalseg.load_plugin",
    )


def load_weights(folder: Path, name: str = WEIGHTS) -> dict[str, Tensor]:
    """Weights of a finished run; `RunError` where the file is missing or damaged, or a value is not finite."""
    path = folder / name
    try:
        weights: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise RunError(f"{path} cannot be read ({error})", CURE) from error
    check_finite(weights, path, CURE)
    return weights


def load_run_weights(network: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    """Load a finished run's weights into the network that its model.json describes; see `load_strictly`."""
    load_strictly(network, weights, path, f"{MODEL_FILE} beside it", cure=CURE)


def load_encoder(encoder: nn.Module, folder: Path) -> None:
    """Load the encoder of a pre-training run.

    An encoder whose instance norms have no learned scale and shift fits one that has them: they start as the identity.
    Every other difference is an error.

    Raises:
        RunError: the weights belong to another network or normalisation.
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
