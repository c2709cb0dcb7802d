"""Embeddings kept on disk, so that a slice is encoded once: for every prompt, every setting, every run.

    <folder>/<first 20 characters of the signature>/signature.json    what they were made from, in words
    <folder>/<…>/0012.safetensors                                     of slice 12, with the whole signature inside

Each file is written under a temporary name and renamed when whole.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from frugalseg.engine.files import atomic_write, write_json
from frugalseg.engine.forms import Form
from frugalseg.errors import StoreError
from frugalseg.sam.protocol import Embedding, Promptable
from frugalseg.sam.slices import ScanSlices

FORMAT = 1
"""Of the files; part of the signature, so that a later program leaves older files alone."""

FOLDER_CHARACTERS = 20

HALF_MAXIMUM = 65504.0


def half(embedding: Mapping[str, Tensor]) -> Embedding:
    """The embedding of a slice as it is kept: float16, or float32 where a value is too large for that.

    Every embedding goes through this, kept or not: otherwise a result would depend on whether there was a cache.
    """
    small = all(bool(features.abs().amax() < HALF_MAXIMUM) for features in embedding.values())
    dtype = torch.float16 if small else torch.float32
    return {name: features.detach().to(dtype) for name, features in embedding.items()}


def facts_of(scan: ScanSlices, model: Promptable) -> dict[str, Any]:
    """All that an embedding of a slice depends on: voxels, window, the model with its weights, its recipe."""
    return {
        "format": FORMAT,
        "image": scan.fingerprint,
        "shown": {"0": scan.limits[0], "1": scan.limits[1]},
        "model": model.signature,
        "recipe": json.loads(json.dumps(asdict(model.recipe))),
    }


def signature_of(facts: Mapping[str, Any]) -> str:
    """SHA-256 of `facts_of`."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


class EmbeddingCache:
    """The embeddings of one scan's slices by one model.

    Args:
        folder: of all embeddings, of any scans and models.
        facts: see `facts_of`.

    Raises:
        StoreError: `folder` is a file, or the place of these embeddings holds those of other facts.
        DiskError: the folder cannot be written.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any]) -> None:
        if folder.exists() and not folder.is_dir():
            raise StoreError(f"--cache {folder} is a file", "name a folder")
        self.signature = signature_of(facts)
        self.folder = folder / self.signature[:FOLDER_CHARACTERS]
        label = self.folder / "signature.json"
        if not label.is_file():
            write_json(label, dict(facts))
        elif (there := _label(label)) != facts:
            differing = sorted(key for key in facts if not isinstance(there, dict) or there.get(key) != facts[key])
            raise self._refused(label, f"its {differing[0]} is another" if differing else "it says more")

    def get(self, z: int) -> Embedding | None:
        """The embedding of slice `z`, each tensor (1, …) on the CPU; None where it is not kept.

        A damaged file counts as none, with a warning.

        Raises:
            StoreError: the file was made from another image, model or window.
        """
        path = self._path(z)
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                signature = (file.metadata() or {}).get("signature")
                embedding = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, no mapping
        except SafetensorError as error:
            warnings.warn(f"{path} is damaged ({error}); the slice is encoded again", stacklevel=2)
            return None
        if signature != self.signature:
            raise self._refused(path, f"it carries signature {signature}")
        return embedding

    def put(self, z: int, embedding: Mapping[str, Tensor]) -> None:
        """Keep the embedding of slice `z`, each tensor (1, …)."""
        content = {name: features.cpu().contiguous() for name, features in embedding.items()}
        with atomic_write(self._path(z)) as file:
            file.write(save(content, metadata={"signature": self.signature}))

    def _path(self, z: int) -> Path:
        return self.folder / f"{z:04d}.safetensors"

    def _refused(self, path: Path, why: str) -> StoreError:
        return StoreError(
            f"{path} was made from another image, model or window ({why}), expected {self.signature}",
            "delete its folder, or give another --cache",
        )


def _label(path: Path) -> Any:
    return Form({}, StoreError, "delete its folder, or give another --cache").read(path)
