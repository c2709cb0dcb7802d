"""Reading other people's weight files, and telling what does not fit. Nothing is ever unpickled."""

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
    """The tensors of a .safetensors file or of a PyTorch checkpoint (alone, or under "state_dict" or "model").

    "module.", which DataParallel puts before every name, is taken off.

    Raises:
        OptionError: another type of file.
        RunError: the file is damaged, or holds more than tensors.
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
        RunError: the file is damaged, or holds objects that are no arrays of numbers.
    """
    if path.suffix != ".npz":
        raise OptionError(f"--weights {path}: expected an .npz file", "give one of Google's ViT checkpoints")
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: torch.from_numpy(np.asarray(file[name])) for name in file.files}
    except (OSError, ValueError, TypeError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise _unreadable(path, error) from error


def load_strictly(module: nn.Module, weights: Mapping[str, Tensor], path: Path, told: Mapping[str, str]) -> None:
    """Load `weights`, which must be exactly the module's own.

    Batch norms' counters of batches may be missing, as in files of old PyTorch versions.

    Args:
        module: what to load into; untouched on any error.
        weights: by the module's names.
        path: where they are from.
        told: the file's names for the module's names, where they differ.

    Raises:
        RunError: naming the first tensor that is missing, left over, of another shape, or not finite.
    """
    cure = "give the weights of this very backbone, whole"
    expected = module.state_dict()
    for name, tensor in expected.items():
        if name not in weights:
            if name.endswith("num_batches_tracked"):
                continue
            raise RunError(f"{path} does not fit the backbone: it has no {told.get(name, name)}", cure)
        found = weights[name]
        if found.shape != tensor.shape:
            raise RunError(
                f"{path} does not fit the backbone: {told.get(name, name)} has the shape {tuple(found.shape)}, "
                f"needed is {tuple(tensor.shape)}",
                cure,
            )
        if not bool(torch.isfinite(found).all()):
            raise RunError(f"{path} is damaged: {told.get(name, name)} holds values that are not finite", cure)
    if left := [name for name in weights if name not in expected]:
        raise RunError(f"{path} does not fit the backbone, which has no {told.get(left[0], left[0])}", cure)
    module.load_state_dict(dict(weights), strict=False)


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        content: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise _unreadable(path, error) from error
    return content


def _load_torch(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> RunError:
    # PyTorch's own text for a refused pickle advises to load it unsafely.
    refused = isinstance(error, pickle.UnpicklingError)
    reason = "not a table of tensors" if refused else str(error).strip().split("\n")[0] or type(error).__name__
    return RunError(
        f"{path} cannot be read: it is damaged, or holds more than weights ({reason})",
        "fetch it again, or save the network's state_dict() alone",
    )
