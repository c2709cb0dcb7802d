"""store.json, and what is kept of each scan while a slice store is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from msgspec import UNSET, UnsetType

from frugalseg.engine.files import to_json
from frugalseg.errors import FrugalsegError, StoreError
from frugalseg.imaging.intensity import IntensityScale
from frugalseg.imaging.modality import ModalityKind
from frugalseg.records.record import Content, Record, as_plain

CURE = "copy the store again from an intact copy, or delete it and prepare it again"


class FileStamp(NamedTuple):
    """Enough to see that a file, or the files of a DICOM series, were exchanged: while it stays, so do they.

    Attributes:
        path: None for a mask that is not there.
        bytes: of the file, or of all files in the folder.
        modified_ns: when the newest of them was last written, nanoseconds since 1970.
    """

    path: str | None
    bytes: int
    modified_ns: int


@dataclass(frozen=True, kw_only=True)
class Digests:
    """`dataset.digest.hash_slices` a scan's slices in images.npy and labels.npy."""

    images: str
    labels: str


@dataclass(frozen=True, kw_only=True)
class ScanEntry(Record):
    """One scan of a slice store; also the file beside its part while the store is being made.

    Attributes:
        slices: their number.
        stamp: of the image and of its mask.
        image_sha256, labels_sha256: see `engine.files.sha256`; None where there is no mask.
        fingerprint: see `imaging.fingerprint`.
        grid: of the image, in words.
        limits: the values that are shown as 0 and 1.
        looks_like: the kind that its values look like, None where they do not tell.
        z_mm, row_mm, column_mm: distance between slices, height and width of a stored pixel.
        values: of its mask, 0 included.
        present: slice → organ → whether the slice shows it.
        digests: of its slices.

    What may be `UNSET` was not noted when the store was made.
    """

    ERROR: ClassVar[type[FrugalsegError]] = StoreError
    CURE: ClassVar[str] = "delete it"
    OLDER: ClassVar = {0: lambda content: content}

    case: str
    patient: str
    slices: int
    stamp: tuple[FileStamp, FileStamp]
    image_sha256: str
    labels_sha256: str | None
    fingerprint: str
    grid: str | UnsetType = UNSET
    limits: tuple[float, float] | UnsetType = UNSET
    looks_like: ModalityKind | UnsetType | None = UNSET
    z_mm: float
    row_mm: float
    column_mm: float
    values: tuple[int, ...]
    present: tuple[tuple[bool, ...], ...]
    digests: Digests | UnsetType = UNSET

    def __post_init__(self) -> None:
        if self.slices < 1:
            raise ValueError(f"the scan {self.case!r} has {self.slices} slices")

    @property
    def image(self) -> str:
        """The scan that it was made from."""
        assert self.stamp[0].path is not None
        return self.stamp[0].path

    @property
    def mask(self) -> str | None:
        """The mask that it was made from, where there is one."""
        return self.stamp[1].path

    @property
    def labelled(self) -> bool:
        """Whether it has a mask."""
        return self.labels_sha256 is not None


@dataclass(frozen=True, kw_only=True)
class SplitParameters:
    """How the split came about: drawn by fractions and seed, or read from a file, which is then known by its hash."""

    fractions: tuple[int | float, int | float] | UnsetType = UNSET
    seed: int | UnsetType = UNSET
    file_sha256: str | UnsetType | None = UNSET


@dataclass(frozen=True, kw_only=True)
class StoreParameters:
    """Everything that shapes a store's content; two stores are alike when these and the scans are.

    Attributes:
        size: side of the slices, pixels.
        intensity: how intensities became [0, 1].
        targets: organ → label values in the masks; the classes 1…C in order.
        patient_pattern: case id → patient.
        split: how patients were divided.
    """

    size: int
    intensity: IntensityScale
    targets: dict[str, tuple[int, ...]]
    patient_pattern: str
    split: SplitParameters

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size {self.size} is below 1")

    def differences(self, asked: StoreParameters) -> list[str]:
        """What is asked for otherwise, in words."""
        there, wanted = as_plain(self), as_plain(asked)
        return [f"{key}: {there[key]} there, {wanted[key]} asked" for key in wanted if there[key] != wanted[key]]


@dataclass(frozen=True, kw_only=True)
class SuperpixelParameters:
    """How superpixels were computed; see `dataset.superpixels.Slic`."""

    segments: int
    compactness: int | float

    def __str__(self) -> str:
        return f"{self.segments} segments of compactness {self.compactness:g}"


@dataclass(frozen=True, kw_only=True)
class StoreRecord(Record):
    """store.json.

    Attributes:
        version: of the program that made the store.
        parameters: how it was made.
        columns: of slices.parquet, with their meaning.
        scans: in the order of the arrays.
        superpixels: how they were computed, where there are any.
        superpixel_digests: case → `dataset.digest.hash_slices` its superpixels.
    """

    ERROR: ClassVar[type[FrugalsegError]] = StoreError
    CURE: ClassVar[str] = CURE

    version: str | UnsetType = UNSET
    parameters: StoreParameters
    columns: dict[str, str] | UnsetType = UNSET
    scans: tuple[ScanEntry, ...]
    superpixels: SuperpixelParameters | UnsetType = UNSET
    superpixel_digests: Mapping[str, str] | UnsetType = UNSET

    def __post_init__(self) -> None:
        if not self.scans:
            raise ValueError("it tells of no scan")
        organs = len(self.parameters.targets)
        for scan in self.scans:
            if len(scan.present) != scan.slices or any(len(there) != organs for there in scan.present):
                raise ValueError(f"the scan {scan.case!r} does not tell of every slice which organs it shows")

    def identity(self) -> str:
        """The text that a run's data are known by.

        Superpixels may be added to a store that runs have learned from; that makes it no other. Nor do copies of its
        scans: the hashes of their files stay.
        """
        content = {key: value for key, value in self.to_json().items() if not key.startswith("superpixel")}
        return to_json({**content, "scans": [_without_stamp(scan) for scan in content["scans"]]})


def _without_stamp(scan: Content) -> Content:
    return {key: value for key, value in scan.items() if key != "stamp"}
