"""signature.json: the inputs of the intermediate results in its folder, which are reused only for the same inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from frugalseg.errors import FrugalsegError, RunError, StoreError
from frugalseg.records.record import Record


@dataclass(frozen=True, kw_only=True)
class SlicesSignature(Record):
    """Signature of the slices that an unfinished propagation has reached.

    Attributes:
        sha256: hash of everything that they depend on.
    """

    ERROR: ClassVar[type[FrugalsegError]] = RunError
    CURE: ClassVar[str] = "delete its folder"

    sha256: str

    @classmethod
    def parse(cls, content: object, path: Path) -> SlicesSignature:
        """See `Record.parse`; in format 0 the file is the hash alone."""
        return super().parse({"format": cls.FORMAT, "sha256": content} if isinstance(content, str) else content, path)


@dataclass(frozen=True, kw_only=True)
class EmbeddingSignature(Record):
    """Signature of the embeddings of a scan's slices: everything that they depend on.

    Attributes:
        image: fingerprint of the voxels.
        shown: "0" and "1" → values of the scan that are scaled to 0 and 1.
        model: signature of the model with its weights.
        recipe: how images are converted for the model.
    """

    ERROR: ClassVar[type[FrugalsegError]] = StoreError
    CURE: ClassVar[str] = "delete its folder, or give another --cache"

    image: str
    shown: Mapping[str, float]
    model: str
    recipe: Mapping[str, object]

    def difference(self, other: EmbeddingSignature) -> str | None:
        """The first part, in alphabetical order, in which two signatures differ."""
        parts = ("image", "model", "recipe", "shown")
        return next((part for part in parts if getattr(self, part) != getattr(other, part)), None)
