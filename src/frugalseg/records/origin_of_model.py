"""pulled.json: where a fetched model came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from frugalseg.records.record import Record


@dataclass(frozen=True, kw_only=True)
class PulledModel(Record):
    """pulled.json beside a model that `frugalseg pull` fetched.

    Attributes:
        CURE: what to do about a damaged file.
        repo: repository or folder, as given.
        revision: commit of the repository; of a folder the SHA-256 of its files.
        weights_sha256: of model.safetensors.
    """

    CURE: ClassVar[str] = "fetch the model again"

    repo: str
    revision: str
    weights_sha256: str
