"""Load a promptable model by name, file or folder, whatever its family."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from frugalseg.engine.allocator import keep_freed_memory
from frugalseg.errors import OptionError
from frugalseg.options import Precision
from frugalseg.plugins import Registry, describe_failures
from frugalseg.promptable.protocol import ImageEncoder, Promptable
from frugalseg.weights.catalogue import CATALOGUE
from frugalseg.weights.folder import find_installed, installed_path

if TYPE_CHECKING:
    from frugalseg.promptable.huggingface import HuggingFaceModel
    from frugalseg.promptable.litemedsam import LiteMedSAM


@dataclass(frozen=True)
class PromptableSource:
    """A promptable model of a plug-in.

    Attributes:
        load: device, precision → the model, ready for use; a frozen encoder of `finetune` also needs the attributes of
            `protocol.ImageEncoder`.
        weights: file or folder of its weights, if it has one: studies record its hash.
    """

    load: Callable[[torch.device, Precision], Promptable]
    weights: Path | None = None


PROMPTABLE_MODELS: Registry[PromptableSource] = Registry(
    "PROMPTABLE_MODELS", PromptableSource, {}, reserved=frozenset(CATALOGUE)
)
"""Promptable models of plug-ins, by name."""


def load_promptable(name_or_path: str | Path, device: torch.device, precision: Precision = "auto") -> Promptable:
    """A promptable model, ready for use.

    On a CPU the process keeps freed memory, see `engine.allocator`.

    Args:
        name_or_path: a name that `frugalseg weights list` shows, one of a plug-in, a file as published by the model's
            authors, or a Hugging Face folder.
        device: where to compute.
        precision: see `engine.device.resolve_precision`.

    Raises:
        OptionError: there is no such name, file or folder.
        RunError: the weights are not installed, are damaged, or belong to an unknown model.
    """
    if str(name_or_path) in PROMPTABLE_MODELS:
        return PROMPTABLE_MODELS[str(name_or_path)].load(device, precision)
    return _load(find_weights(name_or_path), device, precision)


def load_image_encoder(name_or_path: str | Path, device: torch.device, precision: Precision = "auto") -> ImageEncoder:
    """The image encoder of a promptable model, or a vision transformer of DINOv2's or DINOv3's kind.

    Arguments and errors as of `load_promptable`.
    """
    if str(name_or_path) in PROMPTABLE_MODELS:
        model: Any = PROMPTABLE_MODELS[str(name_or_path)].load(device, precision)
        if not hasattr(model, "weights_signature"):
            problem = (
                f"{name_or_path} of the plug-in {PROMPTABLE_MODELS.origin(str(name_or_path))} is no frozen encoder"
            )
            raise OptionError(f"{problem}: it has no weights_signature", "see docs/how-to/plugins.md")
        return cast(ImageEncoder, model)
    path = find_weights(name_or_path)
    if path.is_dir():
        from frugalseg.promptable.vision_transformer import is_vision_transformer, load_vision_transformer

        if is_vision_transformer(path):
            return load_vision_transformer(path, device, precision)
    return _load(path, device, precision)


def _load(path: Path, device: torch.device, precision: Precision) -> LiteMedSAM | HuggingFaceModel:
    # transformers takes seconds to import.
    from frugalseg.promptable.huggingface import load_huggingface_folder
    from frugalseg.promptable.litemedsam import load_litemedsam, read_litemedsam
    from frugalseg.promptable.original_checkpoints import load_original_checkpoint

    if device.type == "cpu":
        keep_freed_memory()
    if path.is_dir():
        return load_huggingface_folder(path, device, precision)
    if weights := read_litemedsam(path):
        return load_litemedsam(path, device, precision, weights)
    return load_original_checkpoint(path, device, precision)


def find_weights(name_or_path: str | Path) -> Path:
    """The file or folder of a model; names take precedence over files in the working folder.

    Raises:
        OptionError: there is no such name, file or folder.
        RunError: weights of this name are known, but not installed.
    """
    name = str(name_or_path)
    if name in PROMPTABLE_MODELS:
        return PROMPTABLE_MODELS[name].weights or _find_module(name)
    if name in CATALOGUE or name in find_installed():
        return installed_path(name)
    path = Path(name_or_path).expanduser()
    if not path.exists():
        names = ", ".join(known_names())
        problem = f"unknown weights {name!r}: no such name, file or folder{describe_failures()}"
        raise OptionError(problem, f"choose one of: {names}")
    return path


def _find_module(name: str) -> Path:
    """The file of the plug-in that has a promptable model."""
    origin = PROMPTABLE_MODELS.origin(name)
    assert origin is not None
    return Path(sys.modules[origin.module].__file__ or "")


def known_names() -> list[str]:
    """Names of weights that are published or installed, and of promptable models of plug-ins."""
    return list(dict.fromkeys([*CATALOGUE, *find_installed(), *PROMPTABLE_MODELS]))


def resolve_name(name_or_path: str) -> str:
    """The name unchanged, or the absolute path, so that a record is valid in any working folder.

    Raises:
        OptionError, RunError: as `find_weights`.
    """
    found = find_weights(name_or_path)
    return name_or_path if name_or_path in known_names() else str(found.absolute())
