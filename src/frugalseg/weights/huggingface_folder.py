"""Model type of a folder written by `save_pretrained` of Hugging Face `transformers`."""

from __future__ import annotations

import json
from pathlib import Path

from frugalseg.errors import OptionError, RunError

_CURE = "give a complete folder as written by `save_pretrained` of transformers: config.json and weights"


def read_model_type(path: Path) -> str:
    """`model_type` in the config.json of a folder.

    Raises:
        OptionError: there is no such folder or file.
        RunError: the file is damaged.
    """
    file = path / "config.json"
    if not file.is_file():
        raise OptionError(f"{path} is not a Hugging Face folder: it has no config.json", _CURE)
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["model_type"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{file} is damaged, or has no model_type", _CURE) from error
