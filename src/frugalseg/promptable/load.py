"""Load a promptable model by name, file or folder, whatever its family."""

from __future__ import annotations

from pathlib import Path

import torch

from frugalseg.engine.allocator import keep_freed_memory
from frugalseg.errors import OptionError
from frugalseg.options import Precision
from frugalseg.promptable.protocol import Promptable
from frugalseg.weights.catalogue import CATALOGUE
from frugalseg.weights.folder import find_installed, installed_path


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
    path = find_weights(name_or_path)
    # transformers takes seconds to import.
    from frugalseg.promptable.huggingface import load_huggingface_folder
    from frugalseg.promptable.litemedsam import is_litemedsam, load_litemedsam
    from frugalseg.promptable.original_checkpoints import load_original_checkpoint

    if device.type == "cpu":
        keep_freed_memory()
    if path.is_dir():
        return load_huggingface_folder(path, device, precision)
    if is_litemedsam(path):
        return load_litemedsam(path, device, precision)
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
        names = ", ".join(dict.fromkeys([*CATALOGUE, *find_installed()]))
        raise OptionError(f"unknown weights {name!r}: no such name, file or folder", f"choose one of: {names}")
    return path


def resolve_name(name_or_path: str) -> str:
    """The name unchanged, or the absolute path, so that a record is valid in any working folder.

    Raises:
        OptionError, RunError: as `find_weights`.
    """
    found = find_weights(name_or_path)
    return name_or_path if name_or_path in CATALOGUE or name_or_path in find_installed() else str(found.absolute())
