"""Embeddings of a scan's slices: from the cache where they are, else from the model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from frugalseg.sam.batches import Batches
from frugalseg.sam.cache import EmbeddingCache, facts_of, half
from frugalseg.sam.framing import Frame
from frugalseg.sam.protocol import Embedding, Promptable
from frugalseg.sam.slices import ScanSlices


class Embedder:
    """Embeds the slices of one scan.

    Args:
        model: that embeds.
        scan: whose slices.
        folder: of the cache; None keeps nothing.
        batches: how many slices at once.

    Attributes:
        frame: the way between slices and the model's pictures.
        encoded, kept: how many slices were encoded, and how many came from the cache.
    """

    def __init__(self, model: Promptable, scan: ScanSlices, folder: Path | None, batches: Batches) -> None:
        self.model, self.scan, self.batches = model, scan, batches
        self.frame = Frame.of(scan.shape, model.recipe)
        self.cache = None if folder is None else EmbeddingCache(folder, facts_of(scan, model))
        self.encoded, self.kept = 0, 0

    def __call__(self, wanted: Sequence[int]) -> Embedding:
        """The embedding of these slices, in this order, on the model's device."""
        found = {z: self.cache.get(z) if self.cache else None for z in dict.fromkeys(wanted)}
        missing = [z for z, embedding in found.items() if embedding is None]
        self.kept += len(found) - len(missing)
        for start, fresh in self._fresh(missing):
            for i, z in enumerate(missing[start : start + _length(fresh)]):
                found[z] = kept = half({name: features[i : i + 1] for name, features in fresh.items()})
                if self.cache:
                    self.cache.put(z, kept)
        parts = [embedding for z in wanted if (embedding := found[z]) is not None]
        return {name: torch.cat([part[name].to(self.model.device).float() for part in parts]) for name in parts[0]}

    def _fresh(self, missing: Sequence[int]) -> list[tuple[int, Embedding]]:
        """Start in `missing` and embedding of each batch."""
        batches, start = [], 0
        for embedding in self.batches.run(self._encode, missing):
            batches.append((start, embedding))
            start += _length(embedding)
            self.encoded += _length(embedding)
        return batches

    @torch.inference_mode()
    def _encode(self, wanted: Sequence[int]) -> Embedding:
        slices = torch.stack([self.scan(z) for z in wanted]).to(self.model.device)
        return self.model.encode(self.frame.pixels(slices, self.model.recipe))


def _length(embedding: Embedding) -> int:
    return len(next(iter(embedding.values())))
