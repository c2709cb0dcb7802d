"""The slice store: all slices of all scans, scaled and square, in a few memory-mapped files.

images.npy       float16, (N, S, S), intensities in [0, 1]
labels.npy       uint8, (N, S, S), classes 0…C; all 0 if a scan has no mask
superpixels.npy  uint16, (N, S, S), if computed by `prepare --superpixels` (see `dataset.superpixels`)
slices.parquet   one row per slice, in the order of the arrays (see `COLUMNS`)
store.json       format version, all preprocessing parameters, one entry per scan with its hashes
split.json       patients for training, validation and test

The arrays of a large store are divided into shards, as images-0000.npy (see `dataset.shards`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
from msgspec import UNSET
from pyarrow import ArrowException

from frugalseg.dataset.digest import hash_slices
from frugalseg.dataset.shards import ShardedArray, ShardFile, StoredArray, list_files
from frugalseg.dataset.splits import divide_into_folds, read_split
from frugalseg.dataset.store_lock import has_unfinished
from frugalseg.errors import StoreError
from frugalseg.imaging.intensity import IntensityScale
from frugalseg.imaging.volume import middle_range
from frugalseg.records.model import Preprocessing
from frugalseg.records.record import to_plain
from frugalseg.records.split import Split
from frugalseg.records.store import CURE, ScanEntry, StoreRecord, SuperpixelParameters

SUPERPIXELS = "superpixels"

ARRAYS: dict[str, np.dtype[Any]] = {"images": np.dtype(np.float16), "labels": np.dtype(np.uint8)}
"""Array → data type of <array>.npy, (N, S, S)."""
_ARRAY_TYPES = {**ARRAYS, SUPERPIXELS: np.dtype(np.uint16)}

COLUMNS = {
    "case": "case id",
    "patient": "patient id",
    "z": "index of the slice in its scan, counted towards the head",
    "position": "(z + 1) / number of slices",
    "z_mm": "z times the distance between slices, mm",
    "row_mm": "height of a stored pixel, mm",
    "column_mm": "width of a stored pixel, mm",
    "labelled": "whether the slice has a label: its scan has a mask, of which all slices or this one are labels",
}
"""Columns of slices.parquet, followed by one boolean column `has_<organ>` per target."""


def presence_column(organ: str) -> str:
    """Name of the column that states whether a slice shows `organ`."""
    return f"has_{organ}"


@dataclass(frozen=True)
class SliceStore:
    """An opened store; the arrays are mapped on first use.

    Attributes:
        folder: its path.
        record: store.json.
        slices: the content of slices.parquet; the row number is the index into the arrays.
    """

    folder: Path
    record: StoreRecord
    slices: pd.DataFrame

    def __fspath__(self) -> str:
        return str(self.folder)

    @classmethod
    def open(cls, folder: Path) -> SliceStore:
        """Open a finished store.

        Raises:
            StoreError: it does not exist, is unfinished or damaged, or has a newer format.
        """
        if not (folder / "store.json").is_file():
            begun = has_unfinished(folder)
            raise StoreError(
                f"{folder} is not a slice store" + (", but there is an unfinished one beside it" if begun else ""),
                "run the same `frugalseg prepare` command again to finish it"
                if begun
                else "make one with `frugalseg prepare`, or check the path",
            )
        record = StoreRecord.read(folder / "store.json")
        return cls(folder, record, _read_index(folder / "slices.parquet", record))

    @cached_property
    def images(self) -> StoredArray:
        """All slices, (N, S, S) float16 in [0, 1], memory-mapped read-only."""
        return self._map_array("images")

    @cached_property
    def labels(self) -> StoredArray:
        """All classes, (N, S, S) uint8, memory-mapped read-only."""
        return self._map_array("labels")

    @cached_property
    def superpixels(self) -> StoredArray:
        """All superpixels, (N, S, S) uint16, numbered from 0 in each slice, memory-mapped read-only.

        Raises:
            StoreError: the store has none.
        """
        self._require_superpixels()
        return self._map_array(SUPERPIXELS)

    def _require_superpixels(self) -> SuperpixelParameters:
        if self.superpixel_parameters is None:
            raise StoreError(
                f"{self.folder} has no superpixels",
                f"add them with: frugalseg prepare superpixels --data {self.folder}",
            )
        return self.superpixel_parameters

    @property
    def superpixel_parameters(self) -> SuperpixelParameters | None:
        """How the superpixels were computed, or None if there are none."""
        made = self.record.superpixels
        return made if made is not UNSET and all(file.path.is_file() for file in self.list_files(SUPERPIXELS)) else None

    def list_files(self, array: str) -> list[ShardFile]:
        """The files of an array, in the order of their rows."""
        return list_files(self.folder, array, len(self.slices), self.record.shards or ())

    def _map_array(self, name: str) -> StoredArray:
        shards = [self._map_file(file, _ARRAY_TYPES[name]) for file in self.list_files(name)]
        return shards[0] if len(shards) == 1 else ShardedArray(shards)

    def _map_file(self, file: ShardFile, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        try:
            array: npt.NDArray[Any] = np.load(file.path, mmap_mode="r")
        except (OSError, EOFError, ValueError) as error:  # most likely copied incompletely
            why = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
            raise StoreError(f"{file.path} {why}", CURE) from None
        wanted = ((len(file.rows), self.size, self.size), dtype)
        if (array.shape, array.dtype) != wanted:
            raise StoreError(
                f"{file.path} belongs to another store: it holds {array.shape} {array.dtype}, "
                f"expected {wanted[0]} {wanted[1]}",
                CURE,
            )
        return array

    def check_content(self, arrays: Iterable[str], rows: npt.NDArray[np.integer[Any]] | None = None) -> None:
        """Compare the hashes of the scans to which `rows` belong (by default of all) with those in store.json.

        Raises:
            StoreError: an array was replaced or changed; names the file and the scan. Older stores have no hashes.
        """
        slices = self.slices if rows is None else self.slices.iloc[np.unique(rows)]
        begins = self.slices.groupby("case", sort=False).indices
        jobs = [
            (name, case, begins[case][0], begins[case][-1] + 1)
            for name in arrays
            for case in slices["case"].unique()
            if case in self._digests(name)
        ]

        def check(job: tuple[str, str, int, int]) -> str | None:
            name, case, first, end = job
            stack = getattr(self, name)[first:end]
            if hash_slices(stack, name) == self._digests(name)[case]:
                return None
            return next(f"{file.path.name}: {case}" for file in self.list_files(name) if first in file.rows)

        with ThreadPoolExecutor() as pool:
            wrong = next(filter(None, pool.map(check, jobs)), None)
        if wrong:
            name, _, case = wrong.partition(": ")
            raise StoreError(
                f"{self.folder / name} changed or belongs to another store: the slices of {case} are not those that "
                "were stored",
                CURE,
            )

    def _digests(self, array: str) -> Mapping[str, str]:
        """Case → hash of its slices (`hash_slices`), as far as known."""
        if array == "superpixels":
            return self.record.superpixel_digests or {}
        return {scan.case: getattr(scan.digests, array) for scan in self.record.scans if scan.digests is not UNSET}

    def check_arrays(self) -> None:
        """Raise `StoreError` if a file of the images or labels is missing, damaged or too short."""
        _ = self.images, self.labels

    @property
    def targets(self) -> dict[str, tuple[int, ...]]:
        """Organ → label values in the users' files; the classes 1…C in order."""
        return self.record.parameters.targets

    @property
    def size(self) -> int:
        """Side of the square slices in pixels."""
        return self.record.parameters.size

    @property
    def intensity(self) -> IntensityScale:
        """How intensities were scaled to [0, 1]."""
        return self.record.parameters.intensity

    @property
    def preprocessing(self) -> Preprocessing:
        """The preprocessing of scans for networks trained on this store, and the modality their values should have."""
        looks = {scan.looks_like for scan in self.record.scans if scan.looks_like}
        return Preprocessing(self.size, self.intensity, tuple(sorted(looks)))

    @property
    def presence_columns(self) -> list[str]:
        """The columns `has_<organ>`, in the order of the classes."""
        return [presence_column(name) for name in self.targets]

    @property
    def same_image(self) -> list[set[str]]:
        """Groups of patients that share an identical scan."""
        return group_identical_scans(self.record.scans)

    @property
    def patients(self) -> list[str]:
        """All patient ids, sorted."""
        return sorted(self.slices["patient"].unique())

    def split(self, other: Path | None = None) -> Split:
        """The split of the store, or that of the file `other`, checked for leakage."""
        own = self.folder / "split.json"
        if other is None and not own.is_file():
            raise StoreError(f"{own} is missing", CURE)
        return read_split(other or own, self.patients, self.same_image)

    def fold(self, split: Split, folds: int, fold: int) -> Split:
        """The split of one fold of a cross-validation, see `divide_into_folds`."""
        labelled = {str(p): bool(own) for p, own in self.slices.groupby("patient")["labelled"].any().items()}
        return divide_into_folds(split, labelled, self.same_image, folds)[fold]

    def fingerprints_of_patients(self, patients: set[str]) -> set[str]:
        """Fingerprints of the scans of these patients."""
        return {scan.fingerprint for scan in self.record.scans if scan.patient in patients}

    def fingerprints_of_cases(self, cases: Iterable[str]) -> set[str]:
        """Fingerprints of these scans."""
        wanted = set(cases)
        return {scan.fingerprint for scan in self.record.scans if scan.case in wanted}

    def identity(self, split: Split, superpixels: bool = False) -> dict[str, str]:
        """Hashes of the store and of the split, by which a run is resumed only on the same data.

        Args:
            split: the split used.
            superpixels: whether the run reads superpixels; their parameters are then included.

        Raises:
            StoreError: the run reads superpixels and there are none.
        """
        made = {"superpixels": json.dumps(to_plain(self._require_superpixels()), sort_keys=True)} if superpixels else {}
        return {
            "store_sha256": hashlib.sha256(self.record.identity().encode()).hexdigest(),
            "split_sha256": hashlib.sha256(json.dumps(to_plain(split), sort_keys=True).encode()).hexdigest(),
            **made,
        }

    def neighbour_rows(self, context: int) -> npt.NDArray[np.int64]:
        """For every row, the rows of the slices from `context` below to `context` above it in its scan, by z.

        Shape (N, 2·context + 1); beyond the end of a scan, its last slice is repeated.
        """
        z = self.slices["z"].to_numpy(np.int64)[:, None] + np.arange(-context, context + 1)
        count = self.slices.groupby("case")["z"].transform("size").to_numpy()[:, None]
        # The slices of a scan are consecutive rows, in order of z.
        first = np.arange(len(self.slices))[:, None] - self.slices["z"].to_numpy(np.int64)[:, None]
        rows: npt.NDArray[np.int64] = first + z.clip(0, count - 1)
        return rows

    def is_middle(self, fraction: float) -> npt.NDArray[np.bool_]:
        """Boolean per row: whether it is in the middle `fraction` of the slices of its scan, at least one per scan."""
        count = self.slices.groupby("case")["z"].transform("size").to_numpy()
        middle = {slices: middle_range(slices, fraction) for slices in np.unique(count).tolist()}
        first, end = (
            np.array([getattr(middle[slices], bound) for slices in count.tolist()], np.int64)
            for bound in ("start", "stop")
        )
        z = self.slices["z"].to_numpy()
        inside: npt.NDArray[np.bool_] = (z >= first) & (z < end)
        return inside


class KnownScan(Protocol):
    """A scan of a slice store, or of a study's index of test scans."""

    @property
    def patient(self) -> str:
        """Its patient id."""

    @property
    def fingerprint(self) -> str:
        """Its `imaging.fingerprint`."""


def group_identical_scans(scans: Iterable[KnownScan]) -> list[set[str]]:
    """Groups of two or more patients among `scans` with an identical fingerprint."""
    owners: dict[str, set[str]] = {}
    for scan in scans:
        owners.setdefault(scan.fingerprint, set()).add(scan.patient)
    return [patients for patients in owners.values() if len(patients) > 1]


def build_index(scans: Sequence[ScanEntry], organs: Iterable[str]) -> pd.DataFrame:
    """The table of slices.parquet, one row per slice (see `COLUMNS`), computed from store.json."""
    count = [scan.slices for scan in scans]
    z = np.concatenate([np.arange(slices) for slices in count])

    def each(values: Iterable[Any]) -> pd.Series[Any]:
        return pd.Series(list(values)).repeat(count).reset_index(drop=True)

    columns = {
        "case": each(scan.case for scan in scans),
        "patient": each(scan.patient for scan in scans),
        "z": z,
        "position": (z + 1) / np.repeat(count, count),
        "z_mm": z * each(scan.z_mm for scan in scans),
        "row_mm": each(scan.row_mm for scan in scans),
        "column_mm": each(scan.column_mm for scan in scans),
        "labelled": np.concatenate([scan.list_labelled() for scan in scans]),
    }
    names = list(organs)
    present = np.array([there for scan in scans for there in scan.present], bool).reshape(len(z), len(names))
    return pd.DataFrame(columns | {presence_column(name): present[:, i] for i, name in enumerate(names)})


def _read_index(path: Path, record: StoreRecord) -> pd.DataFrame:
    """Read slices.parquet and check that it agrees with store.json.

    Raises:
        StoreError: it is missing or damaged, its rows were shuffled, or it belongs to another store.
    """
    try:
        found = pd.read_parquet(path)
    except FileNotFoundError:
        raise StoreError(f"{path} is missing", CURE) from None
    except (OSError, ValueError, KeyError, TypeError, NotImplementedError, ArrowException) as error:
        raise StoreError(f"{path} is damaged: it cannot be read ({str(error).splitlines()[0]})", CURE) from error
    expected = build_index(record.scans, record.parameters.targets)
    if len(found) != len(expected):
        raise StoreError(f"{path} lists {len(found)} slices, store.json {len(expected)}", CURE)
    for name, column in expected.items():
        if name not in found:
            raise StoreError(f"{path} is damaged: it has no column {name!r}", CURE)
        if (differing := np.flatnonzero(found[name].to_numpy() != column.to_numpy())).size:
            raise StoreError(
                f"{path} does not belong to its store.json: {name!r} is {found[name].iloc[differing[0]]!r} in row "
                f"{differing[0]}, expected {column.iloc[differing[0]]!r}",
                CURE,
            )
    return found
