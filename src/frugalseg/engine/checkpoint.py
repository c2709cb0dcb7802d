"""Checkpoints: everything a run needs to go on as if it had never stopped."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import torch

from frugalseg.engine.files import atomic_write
from frugalseg.errors import RunError


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors and plain Python values) so that `path` is always a whole checkpoint."""
    with atomic_write(path) as file:
        torch.save(state, file)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint on the CPU; never runs code from the file.

    Raises:
        RunError: the file is missing or damaged.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise RunError(f"there is no checkpoint {path}", "check the path") from None
    except (RuntimeError, OSError, EOFError, pickle.UnpicklingError) as error:
        raise RunError(f"checkpoint {path} is damaged ({error})", "start the run again in another --out") from error
    return state


def keep_as_best(last: Path, best: Path) -> None:
    """Let `best` name the checkpoint that `last` names now; a hard link, so it costs nothing."""
    temporary = best.with_name(f".{best.name}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(last, temporary)
    except OSError:  # file systems without hard links
        temporary.write_bytes(last.read_bytes())
    temporary.replace(best)
