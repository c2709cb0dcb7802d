"""Embeddings of a scan's slices, read from a cache or computed by the model."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from frugalseg.engine.files import atomic_write
from frugalseg.errors import ScanError, StoreError
from frugalseg.imaging.fingerprint import fingerprint
from frugalseg.imaging.intensity import IntensityScale
from frugalseg.imaging.volume import Array, Reorientation, Volume, axial_slices, canonical
from frugalseg.promptable.batches import Batches
from frugalseg.promptable.framing import SquareFrame
from frugalseg.promptable.protocol import Embedding, Promptable
from frugalseg.records.signatures import EmbeddingSignature

REMEMBERED_BYTES = 128 * 2**20
"""Limits the embeddings that stay in memory; those of 64 slices by SAM or LiteMedSAM."""


class Embedder:
    """Embeds the slices of one scan.

    Args:
        model: the promptable model.
        scan: the slices.
        folder: of the cache; None for no cache.
        batches: batch size of slices.
        remembers: whether the last slices that were encoded stay in memory, for work that returns to them.

    Attributes:
        frame: maps between slices and the model's input images.
        encoded, kept: number of slices encoded, and read from the cache.
    """

    def __init__(
        self, model: Promptable, scan: ScanSlices, folder: Path | None, batches: Batches, remembers: bool = False
    ) -> None:
        self.model, self.scan, self.batches = model, scan, batches
        self.memory: dict[int, Embedding] | None = {} if remembers else None
        self.frame = SquareFrame.of(scan.shape, model.recipe)
        self.cache = None if folder is None else EmbeddingCache(folder, make_embedding_signature(scan, model))
        self.encoded, self.kept = 0, 0

    def __call__(self, wanted: Sequence[int]) -> Embedding:
        """The embedding of these slices, in this order, on the model's device."""
        found = {z: self._find(z) for z in dict.fromkeys(wanted)}
        missing = [z for z, embedding in found.items() if embedding is None]
        for start, batch in self._encode_missing(missing):
            for i, z in enumerate(missing[start : start + _count_slices(batch)]):
                found[z] = kept = to_half_precision({name: features[i : i + 1] for name, features in batch.items()})
                self._keep(z, kept)
        parts = [embedding for z in wanted if (embedding := found[z]) is not None]
        return {name: torch.cat([part[name].to(self.model.device).float() for part in parts]) for name in parts[0]}

    def _find(self, z: int) -> Embedding | None:
        """An embedding from memory or from the cache."""
        if self.memory is not None and z in self.memory:
            return self.memory[z]
        found = self.cache.get(z) if self.cache else None
        self.kept += found is not None
        return found

    def _keep(self, z: int, embedding: Embedding) -> None:
        if self.cache:
            self.cache.put(z, embedding)
        if self.memory is not None:
            self.memory[z] = embedding
            if len(self.memory) * sum(features.nbytes for features in embedding.values()) > REMEMBERED_BYTES:
                del self.memory[next(iter(self.memory))]

    def _encode_missing(self, missing: Sequence[int]) -> list[tuple[int, Embedding]]:
        """Encode in batches: the index of each batch's first slice in `missing`, and its embedding."""
        batches, start = [], 0
        for embedding in self.batches.run(self._encode_batch, missing):
            batches.append((start, embedding))
            start += _count_slices(embedding)
            self.encoded += _count_slices(embedding)
        return batches

    @torch.inference_mode()
    def _encode_batch(self, wanted: Sequence[int]) -> Embedding:
        slices = torch.stack([self.scan(z) for z in wanted]).to(self.model.device)
        return self.model.encode(self.frame.to_model_input(slices, self.model.recipe))


def _count_slices(embedding: Embedding) -> int:
    return len(next(iter(embedding.values())))


FOLDER_CHARACTERS = 20

HALF_MAXIMUM = 65504.0


def to_half_precision(embedding: Mapping[str, Tensor]) -> Embedding:
    """The embedding in the precision of the cache: float16, or float32 where a value is too large for that.

    Applied with and without a cache, so that results do not depend on it.
    """
    small = all(bool(features.abs().amax() < HALF_MAXIMUM) for features in embedding.values())
    dtype = torch.float16 if small else torch.float32
    return {name: features.detach().to(dtype) for name, features in embedding.items()}


def make_embedding_signature(scan: ScanSlices, model: Promptable) -> EmbeddingSignature:
    """Everything that an embedding depends on: voxels, window, model with weights, recipe."""
    return EmbeddingSignature(
        image=scan.fingerprint,
        shown={"0": scan.limits[0], "1": scan.limits[1]},
        model=model.signature,
        recipe=json.loads(json.dumps(asdict(model.recipe))),
    )


def hash_signature(signature: EmbeddingSignature) -> str:
    """SHA-256 of a signature, stored in each file; it covers the format version, so old files are not reused."""
    return hashlib.sha256(json.dumps(signature.to_json(), sort_keys=True).encode()).hexdigest()


class EmbeddingCache:
    """The embeddings of one scan's slices by one model; slices have numbers, or names where the scan is not known.

    Args:
        folder: of all embeddings, for all scans and models.
        signature: see `make_embedding_signature`.

    Raises:
        StoreError: `folder` is a file, or the subfolder of these embeddings holds others.
        DiskError: the folder cannot be written.
    """

    def __init__(self, folder: Path, signature: EmbeddingSignature) -> None:
        if folder.exists() and not folder.is_dir():
            raise StoreError(f"--cache {folder} is a file", "give a folder")
        self.digest = hash_signature(signature)
        self.folder = folder / self.digest[:FOLDER_CHARACTERS]
        label = self.folder / "signature.json"
        if not label.is_file():
            signature.write(label)
        elif differing := EmbeddingSignature.read(label).difference(signature):
            raise self._mismatch_error(label, f"its {differing} differs")

    def has(self, z: int | str) -> bool:
        """Whether there is a file of slice `z`; it may be damaged, which `get` finds out."""
        return self._path(z).is_file()

    def get(self, z: int | str) -> Embedding | None:
        """The embedding of slice `z`, each tensor (1, …) on the CPU; None where it is not cached.

        A damaged file counts as missing, with a warning.

        Raises:
            StoreError: the file was made from another image, model or window.
        """
        path = self._path(z)
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                signature = (file.metadata() or {}).get("signature")
                embedding = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a mapping
        except SafetensorError as error:
            warnings.warn(f"{path} is damaged ({error}); the slice is encoded again", stacklevel=2)
            return None
        if signature != self.digest:
            raise self._mismatch_error(path, f"it has signature {signature}")
        return embedding

    def put(self, z: int | str, embedding: Mapping[str, Tensor]) -> None:
        """Store the embedding of slice `z`, each tensor (1, …)."""
        content = {name: features.cpu().contiguous() for name, features in embedding.items()}
        with atomic_write(self._path(z)) as file:
            file.write(save(content, metadata={"signature": self.digest}))

    def _path(self, z: int | str) -> Path:
        return self.folder / f"{z if isinstance(z, str) else f'{z:04d}'}.safetensors"

    def _mismatch_error(self, path: Path, why: str) -> StoreError:
        return StoreError(
            f"{path} was made from another image, model or window ({why}), expected {self.digest}",
            "delete its folder, or give another --cache",
        )


MIN_SLICE_SIDE = 8
"""Smallest number of rows and columns of a slice; a box prompt is meaningless in smaller ones."""


@dataclass(frozen=True, eq=False)
class ScanSlices:
    """The slices of one scan, converted to floating point one by one on access.

    Attributes:
        volume: the scan in canonical axes.
        reorientation: from the axes of its file to canonical axes.
        limits: intensities that become 0 and 1.
        intensity: the intensity scale.
    """

    volume: Volume
    reorientation: Reorientation
    limits: tuple[float, float]
    intensity: IntensityScale

    @classmethod
    def of(cls, scan: Volume, intensity: IntensityScale) -> ScanSlices:
        """The slices of `scan`; raises `ScanError` where they are too small."""
        upright, way = canonical(scan)
        if min(upright.array.shape[:2]) < MIN_SLICE_SIDE:
            raise ScanError(
                f"{scan.source or 'the scan'} has axial slices of {upright.array.shape[1]}×{upright.array.shape[0]} "
                f"pixels, at least {MIN_SLICE_SIDE}×{MIN_SLICE_SIDE} are needed",
                "check the orientation in its header; axial slices are perpendicular to the body's long axis",
            )
        return cls(upright, way, intensity.fit(upright.array, upright.padding), intensity)

    def __len__(self) -> int:
        return int(self.volume.array.shape[2])

    def __call__(self, z: int) -> Tensor:
        """Slice `z`, counted from 0 at the inferior end: (H, W) float32 in [0, 1]."""
        plane = axial_slices(self.volume.array)[z]
        return torch.from_numpy(self.intensity.apply(plane, self.limits, self.volume.padding))

    @property
    def shape(self) -> tuple[int, int]:
        """H, W of a slice."""
        width, height = self.volume.array.shape[:2]
        return height, width

    @property
    def pixel_mm(self) -> tuple[float, float]:
        """Spacing of rows and of columns in mm."""
        return self.volume.spacing[1], self.volume.spacing[0]

    @property
    def thickness_mm(self) -> float:
        """Spacing of slices in mm."""
        return self.volume.spacing[2]

    @cached_property
    def fingerprint(self) -> str:
        """The scan's identity (see `imaging.fingerprint`)."""
        return fingerprint(self.volume)

    def stack(self, mask: Volume) -> Array:
        """A mask on the scan's grid as slices (Z, H, W), as a view."""
        return axial_slices(self.reorientation.apply(mask).array)

    def unstack(self, slices: Array) -> Array:
        """Slices (Z, H, W) as an array in the axes of the scan's file."""
        return self.reorientation.undo(axial_slices(slices))
