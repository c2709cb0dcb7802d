"""A frozen image encoder: slices → feature maps."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from frugalseg.errors import RunError
from frugalseg.options import Precision
from frugalseg.promptable.framing import SquareFrame
from frugalseg.promptable.load import load_image_encoder, resolve_name
from frugalseg.records.model import PromptableModel

if TYPE_CHECKING:
    from frugalseg.promptable.protocol import ImageEncoder

PROBE_SIDE = 32
"""Pixels of the slice that is encoded to learn the shape of the maps, which does not depend on it."""


class FrozenEncoder:
    """An image encoder on square slices.

    It is no `nn.Module`: its weights are neither trained nor saved, averaged or moved with the network that takes its
    features.

    Args:
        model: computes the maps.
        given: name, folder or file that it was loaded from, for records.
    """

    def __init__(self, model: ImageEncoder, given: str) -> None:
        self.model, self.given = model, given

    @classmethod
    def load(cls, name_or_path: str, device: torch.device, precision: Precision) -> FrozenEncoder:
        """The encoder of a promptable model, or a vision transformer.

        Args:
            name_or_path: a name that `frugalseg weights list` shows, a file as published by the model's authors, or a
                Hugging Face folder.
            device: where to compute.
            precision: see `engine.device.resolve_precision`.

        Raises:
            OptionError, RunError: there is no such model, it is not installed, damaged, or of an unknown kind.
        """
        given = resolve_name(name_or_path)
        return cls(load_image_encoder(name_or_path, device, precision), given)

    @classmethod
    def load_recorded(
        cls, record: PromptableModel, run: Path, given: str | None, device: torch.device, precision: Precision
    ) -> FrozenEncoder:
        """The encoder that a model was trained with.

        Args:
            record: in the model's record.
            run: the model, for messages.
            given: name, folder or file of the encoder; None for that of the training.
            device, precision: as in `load`.

        Raises:
            OptionError, RunError: as `load`; RunError also where it is another one than that of the training.
        """
        encoder = cls.load(given or record.model, device, precision)
        if encoder.record.signature != record.signature:
            raise RunError(
                f"{run} was trained on features of {record.name} with signature {record.signature}, given is "
                f"{encoder.record.name} with {encoder.record.signature}",
                "give the encoder of the training by --backbone",
            )
        return encoder

    @property
    def record(self) -> PromptableModel:
        """The encoder, for the record; its signature does not depend on device and precision."""
        return PromptableModel(self.given, self.model.name, self.model.weights_signature)

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        """(C, h, w) of the map of a slice."""
        channels, height, width = self(torch.zeros(1, PROBE_SIDE, PROBE_SIDE)).shape[1:]
        return channels, height, width

    @torch.no_grad()
    def __call__(self, slices: Tensor) -> Tensor:
        """Maps of square slices (B, S, S) in [0, 1], S at least 2: (B, C, h, w) float32, rounded to float16.

        Rounded with and without a cache, so that results do not depend on it.

        Raises:
            RunError: a value is too large for float16.
        """
        frame = SquareFrame.of(slices.shape[1:], self.model.recipe)
        pixels = frame.to_model_input(slices.to(self.model.device), self.model.recipe)
        maps = self.model.encode(pixels)["image"].half()
        if not bool(torch.isfinite(maps).all()):
            raise RunError(
                f"the features of {self.model.name} hold values outside the range of float16", "choose another encoder"
            )
        return maps.float()

    def __deepcopy__(self, memo: object) -> FrozenEncoder:
        """The same encoder: copies of a network share it."""
        return self
