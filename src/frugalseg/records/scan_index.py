"""What a study keeps of files that are only tested on: enough to know them again, and that they can be read.

A list of scans, and lists of the masks that other programs made of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from frugalseg.errors import FrugalsegError, RunError, StoreError
from frugalseg.records.record import Content, Record
from frugalseg.records.split import Split
from frugalseg.records.store import FileStamp


@dataclass(frozen=True, kw_only=True)
class IndexedScan:
    """One labelled scan; see `records.store.ScanEntry`.

    Attributes:
        labels_sha256: of its mask.
        values: of its mask, 0 included.
        stamp: of the image and of its mask.
    """

    case: str
    patient: str
    fingerprint: str
    labels_sha256: str
    values: tuple[int, ...]
    stamp: tuple[FileStamp, FileStamp]


@dataclass(frozen=True, kw_only=True)
class ScanIndex(Record):
    """The scans, and how their patients are divided."""

    ERROR: ClassVar[type[FrugalsegError]] = StoreError
    CURE: ClassVar[str] = "delete it, and run the study again: the scans are then looked at once more"
    OLDER: ClassVar = {0: lambda content: _keep_comparable(content, "scans")}

    scans: tuple[IndexedScan, ...]
    split: Split


@dataclass(frozen=True, kw_only=True)
class IndexedMask:
    """One mask that another program made of a test scan.

    Attributes:
        values: that it holds, 0 included.
        stamp: of the image and of the mask.
    """

    case: str
    sha256: str
    values: tuple[int, ...]
    stamp: tuple[FileStamp, FileStamp]


@dataclass(frozen=True, kw_only=True)
class MaskIndex(Record):
    """The masks."""

    ERROR: ClassVar[type[FrugalsegError]] = RunError
    CURE: ClassVar[str] = "delete it: it is made again"
    OLDER: ClassVar = {0: lambda content: _keep_comparable(content, "masks")}

    masks: tuple[IndexedMask, ...]


def _keep_comparable(content: Content, name: str) -> Content:
    """What this version can compare with the files, of a list without a format; the others are read once more.

    Each file of a DICOM series had its stamp then, and some scans had no hash of their mask.
    """
    entries = [one for one in content[name] if len(one["stamp"]) == 2 and {"labels_sha256", "sha256"} & one.keys()]
    return {**content, name: entries}
