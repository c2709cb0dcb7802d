"""Reading Hugging Face folders: config.json and weights, on this machine, strictly. Nothing is ever fetched."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import Sam2Model, SamHQModel, SamModel
from transformers.utils import logging

from frugalseg.errors import OptionError, RunError
from frugalseg.options import Precision
from frugalseg.sam.hf import HuggingFaceModel, as_promptable

_CURE = "give a folder as `save_pretrained` of transformers writes it, whole: config.json and its weights"
_UNREADABLE = (
    OSError,
    RuntimeError,
    ValueError,
    KeyError,
    TypeError,
    EOFError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    SafetensorError,
    StrictDataclassError,
)
"""What transformers lets through when a folder's files are damaged."""


def load_folder(path: Path, device: torch.device, precision: Precision = "auto") -> HuggingFaceModel:
    """The model in a Hugging Face folder: config.json with model.safetensors or pytorch_model.bin, or shards of these.

    Nothing is fetched, and nothing unpickled but tensors. A folder with "medsam" in its name gets MedSAM's recipe: its
    config.json is SAM's.

    Args:
        path: of the folder.
        device: where to compute.
        precision: see `engine.device.arithmetic`.

    Raises:
        OptionError: there is no such folder, or no config.json in it.
        RunError: the model is of another type, or the files are damaged or of different models; names the difference.
    """
    kinds: dict[str, Any] = {
        "sam": SamModel,
        "sam_hq": SamHQModel,
        "sam2": Sam2Model,
        "sam2_video": Sam2Model,
    }
    kind = model_type(path)
    if kind not in kinds:
        raise RunError(
            f"{path} holds a model of type {kind!r}, expected one of {', '.join(kinds)}",
            "give a folder of SAM, SlimSAM, MedSAM, SAM-HQ or SAM 2",
        )
    return as_promptable(read_network(kinds[kind], path), path, device, precision)


def model_type(path: Path) -> str:
    """`model_type` in the config.json of a folder.

    Raises:
        OptionError: there is no such folder or file.
        RunError: the file is damaged.
    """
    file = path / "config.json"
    if not file.is_file():
        raise OptionError(f"{path} is no Hugging Face folder: it has no config.json", _CURE)
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["model_type"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{file} is damaged, or tells no model_type", _CURE) from error


def read_network(kind: Any, path: Path) -> Any:
    """The network in a folder, in float32 on the CPU; every weight has its place, and every place its weight.

    Weights that `kind` knows to belong to a larger model are left out (SAM 2's memory for `Sam2Model`).

    Raises:
        RunError: the files are damaged, or of different models; names the first difference.
    """
    try:
        with _quiet():
            network, report = kind.from_pretrained(
                path,
                local_files_only=True,
                weights_only=True,
                dtype=torch.float32,
                ignore_mismatched_sizes=True,  # so that it is us who name them
                output_loading_info=True,
            )
    except _UNREADABLE as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise RunError(f"{path} cannot be read: it is damaged, or no model of its type ({reason})", _CURE) from error
    wrong = [f"{name} has the shape {tuple(a)}, needed is {tuple(b)}" for name, a, b in report["mismatched_keys"]]
    wrong += [f"it has no {name}" for name in report["missing_keys"]]
    wrong += [f"{name} has no place there" for name in report["unexpected_keys"]]
    if wrong:
        more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise RunError(f"the weights in {path} are not those of its config.json: {sorted(wrong)[0]}{more}", _CURE)
    for name, tensor in network.state_dict().items():
        if not bool(torch.isfinite(tensor).all()):
            raise RunError(f"{path} is damaged: {name} holds values that are not finite", "fetch it again")
    return network


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' progress bars and reports; what matters of them becomes an error."""
    reports: Any = logging
    verbosity, bars = reports.get_verbosity(), reports.is_progress_bar_enabled()
    reports.set_verbosity_error()
    reports.disable_progress_bar()
    try:
        yield
    finally:
        reports.set_verbosity(verbosity)
        if bars:
            reports.enable_progress_bar()
