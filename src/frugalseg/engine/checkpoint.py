"""Checkpoints: the complete state of a training, so that a resumed run equals an uninterrupted one."""

from __future__ import annotations

import os
import pickle
import shutil
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from frugalseg.engine.files import atomic_write, temporary_name
from frugalseg.engine.schema import find_fault
from frugalseg.errors import RunError, disk_errors

CURE = "start the training again in another --out"
EXPECTED_KEYS = {
    "step": int,
    "seconds": float,
    "best": float,
    "best_step": int,
    "sums": dict,
    "summed": int,
    "model": dict,
    "optimizer": dict,
    "scheduler": dict,
    "scaler": dict,
}
"""Keys of a training checkpoint and their types; see `engine.loop`."""

_UNREADABLE = (
    *(RuntimeError, OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, IndexError),
    *(OverflowError, RecursionError, AssertionError, struct.error),
    *(pickle.UnpicklingError, zipfile.BadZipFile),
)
"""Exceptions that torch.load raises for a damaged file."""


State = dict[str, Any]
"""A checkpoint: state dicts of PyTorch modules, optimisers and schedules, and numbers."""


def save_checkpoint(path: Path, state: State) -> None:
    """Write `state` (tensors and plain Python values) atomically."""
    with atomic_write(path) as file:
        torch.save(state, file)


def load_checkpoint(path: Path) -> State:
    """Read a checkpoint on the CPU; never runs code from the file.

    Raises:
        RunError: the file is missing or damaged.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise RunError(f"there is no checkpoint {path}", "check the path") from None
    except _UNREADABLE as error:
        raise RunError(f"checkpoint {path} is damaged ({error})", CURE) from error
    if not isinstance(state, dict):
        raise RunError(f"checkpoint {path} is damaged (it holds {type(state).__name__}, not a training state)", CURE)
    return state


def check_checkpoint(path: Path, state: State, steps: int) -> None:
    """Raise `RunError` unless a training of `steps` steps can be resumed from `state`, or its model loaded.

    Detects keys that are missing or of another type, a step beyond `steps`, and weights that are not finite.
    """
    if wrong := find_fault(state, EXPECTED_KEYS):
        raise RunError(f"checkpoint {path} is damaged: {wrong}", CURE)
    if not 0 <= state["step"] <= steps:
        raise RunError(f"checkpoint {path} is damaged: it is at step {state['step']} of {steps}", CURE)
    for name, value in state["model"].items():
        if isinstance(value, torch.Tensor) and not bool(torch.isfinite(value).all()):
            raise RunError(f"checkpoint {path} is damaged: {name} holds values that are not finite", CURE)


@contextmanager
def mismatch_errors(path: Path) -> Iterator[None]:
    """Turn PyTorch's errors on loading the state of another network or optimiser into a `RunError`."""
    try:
        yield
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise RunError(f"checkpoint {path} belongs to another training ({reason})", CURE) from error


def link_as_best(last: Path, best: Path) -> None:
    """Make `best` a hard link to the present file `last`, which takes no space."""
    temporary = temporary_name(best)
    with disk_errors(best):
        temporary.unlink(missing_ok=True)
        try:
            os.link(last, temporary)
        except OSError:  # file systems without hard links
            shutil.copyfile(last, temporary)
        temporary.replace(best)
