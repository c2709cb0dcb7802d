"""origin.json: what is known of weights that are there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from frugalseg.errors import FrugalsegError, RunError
from frugalseg.records.record import Record


@dataclass(frozen=True)
class WeightsOrigin(Record):
    """What is known of weights that are there.

    Attributes:
        file: name of the file or folder beside origin.json.
        bytes: of the file, or of all files in the folder.
        sha256: when it came; see `engine.files.sha256` for that of a folder.
        source: where it came from.
        licence: of the weights; empty where it is unknown.
        checked: whether the SHA-256 was known before, and agreed.
    """

    ERROR: ClassVar[type[FrugalsegError]] = RunError
    CURE: ClassVar[str] = "remove its folder, and fetch or import these weights again"
    OLDER: ClassVar = {0: lambda content: content}

    file: str
    bytes: int
    sha256: str
    source: str
    licence: str
    checked: bool
