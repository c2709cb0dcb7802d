"""A frozen image encoder: slices → feature maps."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from frugalseg.errors import RunError
from frugalseg.features.pretrained import PretrainedEncoder, is_run
from frugalseg.options import Precision
from frugalseg.promptable.batches import Batches
from frugalseg.promptable.embeddings import EmbeddingCache
from frugalseg.promptable.framing import SquareFrame
from frugalseg.promptable.load import load_image_encoder, resolve_name
from frugalseg.records.model import PromptableModel
from frugalseg.records.signatures import EmbeddingSignature

if TYPE_CHECKING:
    from frugalseg.promptable.protocol import ImageEncoder

MAP = "image"
"""Name of the map in an embedding."""
SLICES = "square slices, by their content"
"""What the maps of a cache are of, in its signature."""
HASH_CHARACTERS = 32
SLICES_AT_ONCE = {"cpu": 1, "mps": 4, "cuda": 16}
"""On a CPU a map then depends on no other slice, bit for bit, and more at once are no faster."""
PROBE_SIDE = 32
"""Pixels of the slice that is encoded to learn the shape of the maps, which does not depend on it."""


class FrozenEncoder:
    """An image encoder on square slices.

    It is no `nn.Module`: its weights are neither trained nor saved, averaged or moved with the network that takes its
    features.

    Args:
        model: computes the maps.
        given: name, folder or file that it was loaded from, for records.
        cache: of maps by the content of slices; None for none.
    """

    def __init__(self, model: ImageEncoder, given: str, cache: EmbeddingCache | None = None) -> None:
        self.model, self.given, self.cache = model, given, cache
        self._batches = Batches(self.at_once, "slices")

    @property
    def at_once(self) -> int:
        """Slices to encode at once."""
        return SLICES_AT_ONCE[self.model.device.type]

    def with_cache(self, folder: Path) -> FrozenEncoder:
        """The same encoder with a cache.

        Raises:
            StoreError: `folder` is a file, or its subfolder for this encoder holds maps of another.
            DiskError: it cannot be written.
        """
        recipe = json.loads(json.dumps(asdict(self.model.recipe)))
        signature = EmbeddingSignature(
            image=SLICES, shown={"0": 0.0, "1": 1.0}, model=self.model.signature, recipe=recipe
        )
        return FrozenEncoder(self.model, self.given, EmbeddingCache(folder, signature))

    @classmethod
    def load(cls, name_or_path: str, device: torch.device, precision: Precision) -> FrozenEncoder:
        """The encoder of a promptable model, of a pre-training run, or a vision transformer.

        Args:
            name_or_path: a name that `frugalseg weights list` shows, a file as published by the model's authors, a
                Hugging Face folder, or a run of `frugalseg pretrain`.
            device: where to compute.
            precision: see `engine.device.resolve_precision`.

        Raises:
            OptionError, RunError: there is no such model, it is not installed, damaged, or of an unknown kind.
        """
        given = resolve_name(name_or_path)
        if is_run(given):
            return cls(PretrainedEncoder(Path(given), device, precision), given)
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

    def __call__(self, slices: Tensor) -> Tensor:
        """Maps of square slices (B, S, S) in [0, 1], S at least 2: (B, C, h, w) float32.

        Slices and maps are rounded to float16, as in a store and in the cache, so that results depend on neither.

        Raises:
            RunError: a value is too large for float16.
            DeviceError: memory is too small for one slice.
            StoreError, DiskError: of the cache.
        """
        slices = slices.half()
        cache = self.cache
        if cache is None:
            return self._encode(slices)
        keys = [_hash_slice(one) for one in slices]
        kept = {key: cache.get(key) for key in dict.fromkeys(keys)}
        missing = [key for key, maps in kept.items() if maps is None]
        if missing:
            encoded = self._encode(slices[[keys.index(key) for key in missing]]).half()
            for key, maps in zip(missing, torch.split(encoded, 1), strict=True):
                kept[key] = {MAP: maps}
                cache.put(key, {MAP: maps})
        # Converted one by one: under autocast on a CPU, float16 maps cannot be joined.
        return torch.cat([known[MAP].to(self.model.device).float() for key in keys if (known := kept[key]) is not None])

    def is_cached(self, one: Tensor) -> bool:
        """Whether the map of a slice (S, S) is in the cache."""
        return self.cache is not None and self.cache.has(_hash_slice(one.half()))

    def _encode(self, slices: Tensor) -> Tensor:
        """Maps of slices (B, S, S): (B, C, h, w) float32, in batches that fit into memory."""
        rows = range(len(slices))
        return torch.cat(list(self._batches.run(lambda batch: self._encode_batch(slices[list(batch)]), rows)))

    @torch.no_grad()
    def _encode_batch(self, slices: Tensor) -> Tensor:
        frame = SquareFrame.of(slices.shape[1:], self.model.recipe)
        pixels = frame.to_model_input(slices.to(self.model.device), self.model.recipe)
        maps = self.model.encode(pixels)[MAP].half()
        if not bool(torch.isfinite(maps).all()):
            raise RunError(
                f"the features of {self.model.name} hold values outside the range of float16", "choose another encoder"
            )
        return maps.float()

    def __deepcopy__(self, memo: object) -> FrozenEncoder:
        """The same encoder: copies of a network share it."""
        return self


def _hash_slice(one: Tensor) -> str:
    """Hash of the content and shape of a slice (S, S) in float16."""
    pixels = one.cpu().contiguous().numpy()
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()[:HASH_CHARACTERS]
