"""A file of weights as SAM's, SAM-HQ's or SAM 2's authors publish it, and what its tensors tell."""

from __future__ import annotations

import re
from pathlib import Path

from torch import Tensor

from frugalseg.errors import OptionError, RunError
from frugalseg.models.weight_files import read_state_dict

CURE = "give the file as its authors publish it, whole"


class Checkpoint:
    """The tensors of a file, and what they are.

    Args:
        path: of the file.

    Attributes:
        path: as given.
        family: SAM, SAM-HQ or SAM 2.
        weights: by the file's names.

    Raises:
        OptionError: the file is not there or of another type.
        RunError: it is damaged, holds more than tensors, or is of another model.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise OptionError(f"{path}: no such file", "give a file on this machine; nothing is downloaded")
        self.path = path
        self.weights: dict[str, Tensor] = read_state_dict(path)
        self.family = self._detect_family()

    def shape(self, name: str, dimensions: int | None = None) -> tuple[int, ...]:
        """Of a tensor; `RunError` where there is none of this name, or one of other than so many dimensions."""
        if name not in self.weights:
            raise RunError(f"{self.path} does not fit {self.family}: the weight {name} is missing", CURE)
        shape = tuple(self.weights[name].shape)
        if len(shape) != (dimensions or max(len(shape), 1)):
            raise RunError(f"{self.path} does not fit {self.family}: the weight {name} has the shape {shape}", CURE)
        return shape

    def find_indices(self, pattern: str) -> list[int]:
        """What the group in `pattern` stands for in the names that it fits, in order, each once."""
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
