"""Read published weight files, and load them strictly. Only tensors are unpickled."""

from __future__ import annotations

import pickle
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from frugalseg.errors import OptionError, RunError

TORCH_ENDINGS = (".pth", ".pt", ".bin", ".tar")


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file or of a PyTorch checkpoint (top level, or under "state_dict" or "model").

    DataParallel's prefix "module." is removed.

    Raises:
        OptionError: another type of file.
        RunError: the file is damaged, or contains other data than tensors.
    """
    if path.suffix == ".safetensors":
        content: Any = _load_safetensors(path)
    elif path.suffix in TORCH_ENDINGS:
        content = _load_torch(path)
    else:
        raise OptionError(
            f"--weights {path}: expected a .safetensors or PyTorch file ({', '.join(TORCH_ENDINGS)})",
            "give weights in one of these formats",
        )
    for wrapper in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise RunError(f"{path} is not a table of tensors by name", "save the network's state_dict() alone")
    prefix = "module." if content and all(name.startswith("module.") for name in content) else ""
    return {name.removeprefix(prefix): tensor for name, tensor in content.items()}


def read_arrays(path: Path) -> dict[str, Tensor]:
    """The arrays of an .npz file.

    Raises:
        OptionError: another type of file.
        RunError: the file is damaged, or contains objects that are not arrays of numbers.
    """
    if path.suffix != ".npz":
        raise OptionError(f"--weights {path}: expected an .npz file", "give one of Google's ViT checkpoints")
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: torch.from_numpy(np.asarray(file[name])) for name in file.files}
    except (OSError, ValueError, TypeError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise _unreadable_error(path, error) from error


def load_strictly(
    module: nn.Module,
    weights: Mapping[str, Tensor],
    path: Path,
    network: str,
    names: Mapping[str, str] | None = None,
    cure: str = "give the complete weights of this network",
) -> None:
    """Load weights that must be exactly the module's.

    The batch counters of batch norms may be missing, as in files of old PyTorch versions.

    Args:
        module: what to load into; unchanged on any error.
        weights: by the module's names.
        path: the file they are from.
        network: what they must fit, for messages.
        names: the module's name → the file's name, where the two differ.
        cure: what to do about a difference.

    Raises:
        RunError: names the first weight that is missing, unexpected, of another shape, or not finite.
    """
    names, expected = names or {}, module.state_dict()
    if difference := _first_difference(weights, expected):
        name, problem = difference
        raise RunError(f"{path} does not fit {network}: the weight {names.get(name, name)} {problem}", cure)
    check_finite({names.get(name, name): tensor for name, tensor in weights.items()}, path, cure)
    module.load_state_dict(dict(weights), strict=False)


def _first_difference(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> tuple[str, str] | None:
    """The first weight that differs, and how; None where all fit."""
    for name, tensor in expected.items():
        if name in weights and weights[name].shape != tensor.shape:
            return name, f"has the shape {tuple(weights[name].shape)}, expected {tuple(tensor.shape)}"
        if name not in weights and not name.endswith("num_batches_tracked"):
            return name, "is missing"
    return next(((name, "is unexpected") for name in weights if name not in expected), None)


def check_finite(weights: Mapping[str, Tensor], path: Path, cure: str) -> None:
    """Raise `RunError` where a weight that was read from `path` is infinite or not a number."""
    for name, tensor in weights.items():
        if not bool(torch.isfinite(tensor).all()):
            raise RunError(f"{path} is damaged: {name} holds values that are not finite", cure)


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        content: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise _unreadable_error(path, error) from error
    return content


def _load_torch(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise _unreadable_error(path, error) from error


def _unreadable_error(path: Path, error: Exception) -> RunError:
    # PyTorch's message for a refused pickle suggests unsafe loading.
    refused = isinstance(error, pickle.UnpicklingError)
    reason = "not a table of tensors" if refused else str(error).strip().split("\n")[0] or type(error).__name__
    return RunError(
        f"{path} cannot be read: it is damaged, or holds more than weights ({reason})",
        "download it again, or save the network's state_dict() alone",
    )
