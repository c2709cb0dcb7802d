"""origin.json: file, SHA-256, source and licence of installed weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from frugalseg.errors import FrugalsegError, RunError
from frugalseg.records.record import Converters, Record


@dataclass(frozen=True)
class WeightsOrigin(Record):
    """Provenance of installed weights.

    Attributes:
        file: name of the file or folder beside origin.json.
        bytes: size of the file, or of all files in the folder.
        sha256: at installation; for a folder see `engine.files.sha256`.
        source: where the weights came from.
        licence: licence of the weights; empty where unknown.
        checked: whether the SHA-256 was known beforehand, and agreed.
    """

    ERROR: ClassVar[type[FrugalsegError]] = RunError
    CURE: ClassVar[str] = "delete its folder, and fetch or import these weights again"
    OLDER: ClassVar[Converters] = {0: lambda content: content}

    file: str
    bytes: int
    sha256: str
    source: str
    licence: str
    checked: bool
