"""A weight file as published by the authors of SAM, SAM-HQ or SAM 2: its tensors and its model family."""

from __future__ import annotations

import re
from pathlib import Path

from torch import Tensor

from frugalseg.errors import OptionError, RunError
from frugalseg.models.weight_files import read_state_dict

CURE = "give the complete file as its authors publish it"


class Checkpoint:
    """The tensors of a file, and the model family they belong to.

    Args:
        path: the file.

    Attributes:
        path: the file.
        family: SAM, SAM-HQ or SAM 2.
        weights: by name in the file.

    Raises:
        OptionError: the file is missing or of another type.
        RunError: it is damaged, contains other data than tensors, or belongs to another model.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise OptionError(f"{path}: no such file", "give a file on this machine; nothing is downloaded")
        self.path = path
        self.weights: dict[str, Tensor] = read_state_dict(path)
        self.family = self._detect_family()

    def shape(self, name: str, dimensions: int | None = None) -> tuple[int, ...]:
        """Shape of a tensor; `RunError` where it is missing or has another number of dimensions."""
        if name not in self.weights:
            raise RunError(f"{self.path} does not fit {self.family}: the weight {name} is missing", CURE)
        shape = tuple(self.weights[name].shape)
        if len(shape) != (dimensions or max(len(shape), 1)):
            raise RunError(f"{self.path} does not fit {self.family}: the weight {name} has the shape {shape}", CURE)
        return shape

    def find_indices(self, pattern: str) -> list[int]:
        """The numbers that the group in `pattern` matches in names of weights, sorted, without duplicates."""
        found = (re.match(pattern, name) for name in self.weights)
        return sorted({int(match[1]) for match in found if match})

    def _detect_family(self) -> str:
        marks = {
            "SAM-HQ": "mask_decoder.hf_token.weight",
            "SAM": "image_encoder.blocks.0.attn.qkv.weight",
            "SAM 2": "image_encoder.trunk.blocks.0.attn.qkv.weight",
        }
        for family, mark in marks.items():
            if mark in self.weights:
                return family
        first = next(iter(self.weights), "nothing")
        raise RunError(
            f"{self.path} is neither SAM nor SAM-HQ nor SAM 2: its first weight is {first}, none is {marks['SAM']}",
            CURE,
        )
