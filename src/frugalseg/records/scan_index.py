"""Index files of a study: the scans of a set that is only tested on, and masks of them by other programs.

They show whether a file was exchanged, and that it could be read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from frugalseg.errors import FrugalsegError, RunError, StoreError
from frugalseg.records.record import Content, Converters, Record
from frugalseg.records.split import Split
from frugalseg.records.store import FileStamp


@dataclass(frozen=True, kw_only=True)
class IndexedScan:
    """One labelled scan; see `records.store.ScanEntry`.

    Attributes:
        labels_sha256: SHA-256 of its mask.
        values: values in its mask, 0 included.
        stamp: stamps of the image and of its mask.
    """

    case: str
    patient: str
    fingerprint: str
    labels_sha256: str
    values: tuple[int, ...]
    stamp: tuple[FileStamp, FileStamp]


@dataclass(frozen=True, kw_only=True)
class ScanIndex(Record):
    """The scans of a test set, and the split of their patients."""

    ERROR: ClassVar[type[FrugalsegError]] = StoreError
    CURE: ClassVar[str] = "delete it, and run the study again: the scans are then read again"
    OLDER: ClassVar[Converters] = {0: lambda content: _keep_comparable(content, "scans")}

    scans: tuple[IndexedScan, ...]
    split: Split


@dataclass(frozen=True, kw_only=True)
class IndexedMask:
    """One mask that another program made of a test scan.

    Attributes:
        values: values in it, 0 included.
        stamp: stamps of the image and of the mask.
    """

    case: str
    sha256: str
    values: tuple[int, ...]
    stamp: tuple[FileStamp, FileStamp]


@dataclass(frozen=True, kw_only=True)
class MaskIndex(Record):
    """Masks of a test set by another program."""

    ERROR: ClassVar[type[FrugalsegError]] = RunError
    CURE: ClassVar[str] = "delete it, and run the study again: the masks are then read again"
    OLDER: ClassVar[Converters] = {0: lambda content: _keep_comparable(content, "masks")}

    masks: tuple[IndexedMask, ...]


def _keep_comparable(content: Content, name: str) -> Content:
    """Format 0: keep the entries that this version can compare with the files; the other files are read again.

    In older versions each file of a DICOM series had a stamp, and some scans had no hash of their mask.
    """
    entries = [one for one in content[name] if len(one["stamp"]) == 2 and {"labels_sha256", "sha256"} & one.keys()]
    return {**content, name: entries}
