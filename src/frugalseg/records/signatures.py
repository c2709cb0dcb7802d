"""signature.json: what the files beside it were made from, so that none made otherwise is taken for theirs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from frugalseg.errors import FrugalsegError, RunError, StoreError
from frugalseg.records.record import Record


@dataclass(frozen=True, kw_only=True)
class SlicesSignature(Record):
    """Of the slices that a propagation reached before it was stopped.

    Attributes:
        sha256: over all that they depend on.
    """

    ERROR: ClassVar[type[FrugalsegError]] = RunError
    CURE: ClassVar[str] = "delete its folder"

    sha256: str

    @classmethod
    def parse(cls, content: object, path: Path) -> SlicesSignature:
        """See `Record.parse`; before there were formats the file held the hash alone."""
        return super().parse({"format": cls.FORMAT, "sha256": content} if isinstance(content, str) else content, path)


@dataclass(frozen=True, kw_only=True)
class EmbeddingSignature(Record):
    """Of the embeddings of a scan's slices: all that they depend on.

    Attributes:
        image: fingerprint of the voxels.
        shown: "0" and "1" → the values of the scan that are shown as 0 and 1.
        model: signature of the model with its weights.
        recipe: how the model's pictures are made.
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
