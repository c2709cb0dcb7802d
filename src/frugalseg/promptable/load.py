"""Load a promptable model by name, file or folder, whatever its family."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from frugalseg.engine.allocator import keep_freed_memory
from frugalseg.errors import OptionError
from frugalseg.options import Precision
from frugalseg.promptable.protocol import ImageEncoder, Promptable
from frugalseg.weights.catalogue import CATALOGUE
from frugalseg.weights.folder import find_installed, installed_path

if TYPE_CHECKING:
    from frugalseg.promptable.huggingface import HuggingFaceModel
    from frugalseg.promptable.litemedsam import LiteMedSAM


def load_promptable(name_or_path: str | Path, device: torch.device, precision: Precision = "auto") -> Promptable:
    """A promptable model, ready for use.

    On a CPU the process keeps freed memory, see `engine.allocator`.

    Args:
        name_or_path: a name that `frugalseg weights list` shows, a file as published by the model's authors, or a
            Hugging Face folder.
        device: where to compute.
        precision: see `engine.device.resolve_precision`.

    Raises:
        OptionError: there is no such name, file or folder.
        RunError: the weights are not installed, are damaged, or belong to an unknown model.
    """
    return _load(find_weights(name_or_path), device, precision)


def load_image_encoder(name_or_path: str | Path, device: torch.device, precision: Precision = "auto") -> ImageEncoder:
    """The image encoder of a promptable model, or a vision transformer of DINOv2's or DINOv3's kind.

    Arguments and errors as of `load_promptable`.
    """
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
    if name in CATALOGUE or name in find_installed():
        return installed_path(name)
    path = Path(name_or_path).expanduser()
    if not path.exists():
        names = ", ".join(known_names())
        raise OptionError(f"unknown weights {name!r}: no such name, file or folder", f"choose one of: {names}")
    return path


def known_names() -> list[str]:
    """Names of weights that are published or installed."""
    return list(dict.fromkeys([*CATALOGUE, *find_installed()]))


def resolve_name(name_or_path: str) -> str:
    """The name unchanged, or the absolute path, so that a record is valid in any working folder.

    Raises:
        OptionError, RunError: as `find_weights`.
    """
    found = find_weights(name_or_path)
    return name_or_path if name_or_path in CATALOGUE or name_or_path in find_installed() else str(found.absolute())
