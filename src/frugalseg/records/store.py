"""store.json, and the files of single scans while a slice store is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from msgspec import UNSET, UnsetType

from frugalseg.engine.files import to_json
from frugalseg.errors import FrugalsegError, StoreError
from frugalseg.imaging.intensity import IntensityScale
from frugalseg.imaging.modality import ModalityKind
from frugalseg.records.record import Content, Converters, Record, to_plain

CURE = "copy the store again from an intact copy, or delete it and prepare it again"


class FileStamp(NamedTuple):
    """Stamp of a file or of a DICOM series; it changes when files are exchanged.

    Attributes:
        path: None where there is no mask.
        bytes: size of the file, or of all files in the folder.
        modified_ns: time of the latest change, in nanoseconds since 1970.
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
        slices: number of slices.
        stamp: stamps of the image and of its mask.
        image_sha256, labels_sha256: see `engine.files.sha256`; None where there is no mask.
        fingerprint: see `imaging.fingerprint`.
        grid: size, spacing and orientation of the image, in words.
        limits: values that are scaled to 0 and 1.
        looks_like: the kind that its values look like; None where they fit both.
        z_mm, row_mm, column_mm: distance between slices, height and width of a stored pixel.
        values: values in its mask, 0 included.
        present: for each slice and organ, whether the slice shows the organ.
        areas_mm2: for each organ, the median area over the slices that show it, in its mask before resizing; 0 where
            no slice does.
        own_size: the size at which its slices keep their own resolution, pixels.
        labelled_slices: the slices whose mask is a label, if annotations.json lists them; otherwise all are.
        digests: digests of its slices.

    Fields that may be `UNSET` are missing in older stores.
    """

    ERROR: ClassVar[type[FrugalsegError]] = StoreError
    CURE: ClassVar[str] = "delete it"
    OLDER: ClassVar[Converters] = {0: lambda content: content}

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
    areas_mm2: tuple[int | float, ...] | UnsetType = UNSET
    own_size: int | UnsetType = UNSET
    labelled_slices: tuple[int, ...] | UnsetType = UNSET
    digests: Digests | UnsetType = UNSET

    def __post_init__(self) -> None:
        if self.slices < 1:
            raise ValueError(f"the scan {self.case!r} has {self.slices} slices")

    @property
    def image(self) -> str:
        """Path of the scan."""
        assert self.stamp[0].path is not None
        return self.stamp[0].path

    @property
    def mask(self) -> str | None:
        """Path of the mask, where there is one."""
        return self.stamp[1].path

    @property
    def labelled(self) -> bool:
        """Whether it has a mask."""
        return self.labels_sha256 is not None

    def list_labelled(self) -> list[bool]:
        """For each slice, whether it has a label."""
        if self.labelled_slices is UNSET:
            return [self.labelled] * self.slices
        return [z in set(self.labelled_slices) for z in range(self.slices)]


@dataclass(frozen=True, kw_only=True)
class SplitParameters:
    """Parameters of the split: fractions and seed of a random split, or the hash of a file."""

    fractions: tuple[int | float, int | float] | UnsetType = UNSET
    seed: int | UnsetType = UNSET
    file_sha256: str | UnsetType | None = UNSET


@dataclass(frozen=True, kw_only=True)
class StoreParameters:
    """Every parameter that changes a store's content; with the same scans, equal parameters give equal stores.

    Attributes:
        size: width and height of the slices, pixels.
        intensity: how intensities are scaled to [0, 1].
        targets: organ → label values in the masks; the classes 1…C in order.
        patient_pattern: regular expression: case id → patient.
        split: parameters of the split.
    """

    size: int
    intensity: IntensityScale
    targets: dict[str, tuple[int, ...]]
    patient_pattern: str
    split: SplitParameters

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size {self.size} is below 1")

    def differences(self, requested: StoreParameters) -> list[str]:
        """Each parameter whose requested value differs, with both values."""
        own, wanted = to_plain(self), to_plain(requested)
        return [f"{key}: {own[key]} in the store, {wanted[key]} requested" for key in wanted if own[key] != wanted[key]]


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
        version: version of frugalseg that made the store.
        parameters: parameters of its preparation.
        columns: column of slices.parquet → meaning.
        scans: in the order of the arrays.
        shards: slices in each file of an array, where it is divided (see `dataset.shards`).
        superpixels: parameters of the superpixels, where there are any.
        superpixel_digests: case → `dataset.digest.hash_slices` its superpixels.
    """

    ERROR: ClassVar[type[FrugalsegError]] = StoreError
    CURE: ClassVar[str] = CURE
    FORMAT: ClassVar[int] = 2
    OLDER: ClassVar[Converters] = {1: lambda content: content}  # one file for each array

    version: str | UnsetType = UNSET
    parameters: StoreParameters
    columns: dict[str, str] | UnsetType = UNSET
    scans: tuple[ScanEntry, ...]
    shards: tuple[int, ...] | UnsetType = UNSET
    superpixels: SuperpixelParameters | UnsetType = UNSET
    superpixel_digests: Mapping[str, str] | UnsetType = UNSET

    def __post_init__(self) -> None:
        if not self.scans:
            raise ValueError("it lists no scan")
        slices = sum(scan.slices for scan in self.scans)
        if self.shards and sum(self.shards) != slices:
            raise ValueError(f"its shards have {sum(self.shards)} slices, its scans {slices}")
        organs = len(self.parameters.targets)
        for scan in self.scans:
            if len(scan.present) != scan.slices or any(len(organs_shown) != organs for organs_shown in scan.present):
                raise ValueError(f"the scan {scan.case!r} does not state for every slice which organs it shows")
            if scan.areas_mm2 is not UNSET and len(scan.areas_mm2) != organs:
                raise ValueError(f"the scan {scan.case!r} does not state the area of every organ")

    def to_json(self) -> Content:
        """See `Record.to_json`; a store that is not divided has format 1, so that earlier versions read it."""
        return {**super().to_json(), "format": self.FORMAT if self.shards else 1}

    def identity(self) -> str:
        """The text whose hash identifies the data of a run.

        It is independent of the format, of the files that arrays are divided into, of superpixels, which may be added
        later, and of the paths and times of the scans' files; the
        hashes of these files are part of it.
        """
        content = {key: value for key, value in self.to_json().items() if not key.startswith(("superpixel", "shards"))}
        return to_json({**content, "format": 1, "scans": [_remove_stamp(scan) for scan in content["scans"]]})


def _remove_stamp(scan: Content) -> Content:
    return {key: value for key, value in scan.items() if key != "stamp"}
