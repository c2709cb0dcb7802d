"""The slice store: every slice of every scan, scaled and square, in a few memory-mapped files.

images.npy       float16, (N, S, S), intensities in [0, 1]
labels.npy       uint8, (N, S, S), classes 0…C; all 0 where a scan has no mask
superpixels.npy  uint16, (N, S, S), where `prepare --superpixels` computed them (see `dataset.superpixels`)
slices.parquet   one row a slice, in the order of the arrays (see `COLUMNS`)
store.json       format version, every preprocessing parameter, one entry a scan with its hashes
split.json       patients for training, validation and test
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pyarrow import ArrowException

from frugalseg.dataset.digest import digest_of
from frugalseg.dataset.place import unfinished
from frugalseg.dataset.splits import Split, read_split
from frugalseg.engine.files import to_json
from frugalseg.engine.forms import SCALE, Form
from frugalseg.errors import StoreError
from frugalseg.imaging.intensity import IntensityScale

FORMAT = 1
SUPERPIXELS = "superpixels.npy"
SUPERPIXEL_DIGESTS = "superpixel_digests"

ARRAYS: dict[str, np.dtype[Any]] = {"images": np.dtype(np.float16), "labels": np.dtype(np.uint8)}
"""What lies in <name>.npy, (N, S, S)."""
_TYPES = {**ARRAYS, "superpixels": np.dtype(np.uint16)}

CURE = "copy the store again from an intact copy, or delete it and prepare it again"

SCAN = {
    "case": str,
    "patient": str,
    "slices": int,
    "fingerprint": str,
    "image_sha256": str,
    "labels_sha256": str | None,
    "stamp": list,
    "z_mm": float,
    "row_mm": float,
    "column_mm": float,
    "values": [int],
    "present": [[bool]],
}
"""A scan's entry in store.json."""

DIGESTS = {"digests": dict.fromkeys(ARRAYS, str)}
"""What it holds too, in stores that are made now."""

HEAD = Form({"format": object}, StoreError, CURE)


def _makes_sense(meta: dict[str, Any]) -> None:
    """Raise `ValueError` where the values of store.json cannot be."""
    if meta["parameters"]["size"] < 1 or any(scan["slices"] < 1 for scan in meta["scans"]) or not meta["scans"]:
        raise ValueError("a size, or a number of slices, below 1, or no scan")
    IntensityScale.from_dict(meta["parameters"]["intensity"])
    organs = len(meta["parameters"]["targets"])
    for scan in meta["scans"]:
        if len(scan["present"]) != scan["slices"] or any(len(there) != organs for there in scan["present"]):
            raise ValueError(f"the scan {scan['case']!r} does not state for every slice which organs it shows")


META = Form(
    {
        "parameters": {"size": int, "intensity": SCALE, "targets": {str: [int]}, "patient_pattern": str, "split": dict},
        "scans": [SCAN | {"digests?": DIGESTS["digests"]}],
        "superpixels?": {"segments": int, "compactness": float},
        f"{SUPERPIXEL_DIGESTS}?": {str: str},
    },
    StoreError,
    CURE,
    valid=_makes_sense,
)
"""store.json."""

COLUMNS = {
    "case": "case id",
    "patient": "patient id",
    "z": "index of the slice in its scan, counted towards the head",
    "position": "(z + 1) / number of slices",
    "z_mm": "z times the distance between slices, mm",
    "row_mm": "height of a stored pixel, mm",
    "column_mm": "width of a stored pixel, mm",
    "labelled": "whether the scan has a mask",
}
"""Columns of slices.parquet; after them one boolean column `has_<organ>` a target."""


def presence_column(organ: str) -> str:
    """Name of the column that says whether a slice holds `organ`."""
    return f"has_{organ}"


@dataclass(frozen=True)
class SliceStore:
    """An opened store; the arrays are mapped on first use.

    Attributes:
        folder: where it lies.
        meta: the content of store.json.
        slices: the content of slices.parquet; the row number is the index into the arrays.
    """

    folder: Path
    meta: dict[str, Any]
    slices: pd.DataFrame

    @classmethod
    def open(cls, folder: Path) -> SliceStore:
        """Open a finished store.

        Raises:
            StoreError: there is none, it is unfinished, or of another format version.
        """
        if not (folder / "store.json").is_file():
            begun = unfinished(folder)
            raise StoreError(
                f"{folder} is no slice store" + (", only an unfinished one is beside it" if begun else ""),
                "run the same `frugalseg prepare` command again to finish it"
                if begun
                else "make one with `frugalseg prepare`, or check the path",
            )
        found = HEAD.read(folder / "store.json")["format"]
        if found != FORMAT:
            raise StoreError(
                f"{folder} has store format {found}, this version reads {FORMAT}",
                "prepare the store again with this version",
            )
        meta = META.read(folder / "store.json")
        return cls(folder, meta, _read_index(folder / "slices.parquet", meta))

    @cached_property
    def images(self) -> npt.NDArray[np.float16]:
        """All slices, (N, S, S) float16 in [0, 1], memory-mapped read-only."""
        return self._map("images.npy")

    @cached_property
    def labels(self) -> npt.NDArray[np.uint8]:
        """All classes, (N, S, S) uint8, memory-mapped read-only."""
        return self._map("labels.npy")

    @cached_property
    def superpixels(self) -> npt.NDArray[np.uint16]:
        """All superpixels, (N, S, S) uint16 from 0 in each slice, memory-mapped read-only.

        Raises:
            StoreError: the store has none.
        """
        self._need_superpixels()
        return self._map(SUPERPIXELS)

    def _need_superpixels(self) -> dict[str, Any]:
        if self.superpixels_made is None:
            raise StoreError(
                f"{self.folder} has no superpixels",
                f"add them with: frugalseg prepare superpixels --data {self.folder}",
            )
        return self.superpixels_made

    @property
    def superpixels_made(self) -> dict[str, Any] | None:
        """How the superpixels were computed, or None where there are none."""
        return self.meta.get("superpixels") if (self.folder / SUPERPIXELS).is_file() else None

    def _map(self, name: str) -> npt.NDArray[Any]:
        path = self.folder / name
        try:
            array: npt.NDArray[Any] = np.load(path, mmap_mode="r")
        except (OSError, EOFError, ValueError) as error:  # copied in part, most likely
            why = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
            raise StoreError(f"{path} {why}", CURE) from None
        size = self.meta.get("parameters", {}).get("size", array.shape[-1])
        wanted = ((len(self.slices), size, size), _TYPES[path.stem])
        if (array.shape, array.dtype) != wanted:
            raise StoreError(
                f"{path} is of another store: it holds {array.shape} {array.dtype}, expected {wanted[0]} {wanted[1]}",
                CURE,
            )
        return array

    def check_content(self, arrays: Iterable[str], rows: npt.NDArray[np.integer[Any]] | None = None) -> None:
        """Read some slices of the scans that `rows` are of (by default of all), and see that they are what was stored.

        Raises:
            StoreError: an array was exchanged or changed; names the file and the scan. Older stores cannot tell.
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
            return None if digest_of(stack, name) == self._digests(name)[case] else f"{name}.npy: {case}"

        with ThreadPoolExecutor() as pool:
            wrong = next(filter(None, pool.map(check, jobs)), None)
        if wrong:
            name, _, case = wrong.partition(": ")
            raise StoreError(
                f"{self.folder / name} changed or is of another store: the slices of {case} are not those that "
                "were stored",
                CURE,
            )

    def _digests(self, array: str) -> Mapping[str, str]:
        """Case → `digest_of` its slices, where they are known."""
        if array == "superpixels":
            known: dict[str, str] = self.meta.get(SUPERPIXEL_DIGESTS, {})
            return known
        return {scan["case"]: scan["digests"][array] for scan in self.meta.get("scans", ()) if "digests" in scan}

    def check_arrays(self) -> None:
        """Raise `StoreError` where images.npy or labels.npy is missing, damaged or too short."""
        _ = self.images, self.labels

    @property
    def targets(self) -> dict[str, tuple[int, ...]]:
        """Organ → label values in the users' files; the classes 1…C in order."""
        return {name: tuple(values) for name, values in self.meta["parameters"]["targets"].items()}

    @property
    def size(self) -> int:
        """Side of the square slices in pixels."""
        return int(self.meta["parameters"]["size"])

    @property
    def intensity(self) -> IntensityScale:
        """How intensities became [0, 1]."""
        return IntensityScale.from_dict(self.meta["parameters"]["intensity"])

    @property
    def preprocessing(self) -> dict[str, Any]:
        """What a scan must go through before a network trained on this store sees it, and what it should look like.

        Under "looks_like" the kinds, ct or mr, that the values of the store's scans look like; a store made before
        that was noted has none.
        """
        looks = {scan.get("looks_like") for scan in self.meta["scans"]} - {None}
        shaping = {key: self.meta["parameters"][key] for key in ("size", "intensity")}
        return {**shaping, "looks_like": sorted(looks)}

    @property
    def presence_columns(self) -> list[str]:
        """The columns `has_<organ>`, in the order of the classes."""
        return [presence_column(name) for name in self.targets]

    @property
    def same_image(self) -> list[set[str]]:
        """Groups of patients who share an identical scan."""
        return same_image_groups(self.meta["scans"])

    @property
    def patients(self) -> list[str]:
        """All patient ids, sorted."""
        return sorted(self.slices["patient"].unique())

    def split(self, other: Path | None = None) -> Split:
        """The store's own split, or the one in the file `other`; checked for leakage either way."""
        own = self.folder / "split.json"
        if other is None and not own.is_file():
            raise StoreError(f"{own} is missing", CURE)
        return read_split(other or own, self.patients, self.same_image)

    def fingerprints(self, patients: set[str]) -> set[str]:
        """Fingerprints of the scans of these patients."""
        return {scan["fingerprint"] for scan in self.meta["scans"] if scan["patient"] in patients}

    def identity(self, split: Split, superpixels: bool = False) -> dict[str, str]:
        """Hashes of the store and of the split used: a run is resumed on the same data or not at all.

        Args:
            split: which patients are for what.
            superpixels: whether the run reads them; how they were computed then belongs to it.

        Raises:
            StoreError: superpixels are read, and there are none.
        """
        parts = json.dumps(split.to_dict(), sort_keys=True)
        # Superpixels may be added to a store that runs have learned from; that makes it no other.
        meta = {key: value for key, value in self.meta.items() if key not in ("superpixels", SUPERPIXEL_DIGESTS)}
        # Nor do copies of its scans: hashes of their files stay.
        meta["scans"] = [{key: value for key, value in scan.items() if key != "stamp"} for scan in self.meta["scans"]]
        content = to_json(meta)
        return {
            "store_sha256": hashlib.sha256(content.encode()).hexdigest(),
            "split_sha256": hashlib.sha256(parts.encode()).hexdigest(),
            **({"superpixels": json.dumps(self._need_superpixels(), sort_keys=True)} if superpixels else {}),
        }

    def around(self, context: int) -> npt.NDArray[np.int64]:
        """For every row the rows of the slices from `context` below to `context` above it in its scan, in order of z.

        (N, 2·context + 1); where the scan ends, its last slice again.
        """
        z = self.slices["z"].to_numpy(np.int64)[:, None] + np.arange(-context, context + 1)
        count = self.slices.groupby("case")["z"].transform("size").to_numpy()[:, None]
        # A scan's slices lie one after the other, in order of z.
        first = np.arange(len(self.slices))[:, None] - self.slices["z"].to_numpy(np.int64)[:, None]
        rows: npt.NDArray[np.int64] = first + z.clip(0, count - 1)
        return rows

    def middle(self, fraction: float) -> npt.NDArray[np.bool_]:
        """Mask over the rows: the middle `fraction` of each scan's slices, at least one a scan."""
        count = self.slices.groupby("case")["z"].transform("size").to_numpy()
        kept = np.maximum(1, np.round(count * fraction)).astype(int)
        first = (count - kept) // 2
        z = self.slices["z"].to_numpy()
        inside: npt.NDArray[np.bool_] = (z >= first) & (z < first + kept)
        return inside


def same_image_groups(scans: Sequence[Mapping[str, Any]]) -> list[set[str]]:
    """Groups of two or more patients among `scans` (entries of store.json) with an identical fingerprint."""
    owners: dict[str, set[str]] = {}
    for scan in scans:
        owners.setdefault(scan["fingerprint"], set()).add(scan["patient"])
    return [patients for patients in owners.values() if len(patients) > 1]


def index_of(scans: Sequence[Mapping[str, Any]], organs: Iterable[str]) -> pd.DataFrame:
    """One row a slice (see `COLUMNS`), by what store.json says of the scans."""
    count = [int(scan["slices"]) for scan in scans]
    z = np.concatenate([np.arange(slices) for slices in count])

    def each(values: Iterable[Any]) -> pd.Series[Any]:
        return pd.Series(list(values)).repeat(count).reset_index(drop=True)

    columns = {
        "case": each(scan["case"] for scan in scans),
        "patient": each(scan["patient"] for scan in scans),
        "z": z,
        "position": (z + 1) / np.repeat(count, count),
        "z_mm": z * each(float(scan["z_mm"]) for scan in scans),
        "row_mm": each(float(scan["row_mm"]) for scan in scans),
        "column_mm": each(float(scan["column_mm"]) for scan in scans),
        "labelled": each(scan["labels_sha256"] is not None for scan in scans),
    }
    names = list(organs)
    present = np.array([there for scan in scans for there in scan["present"]], bool).reshape(len(z), len(names))
    return pd.DataFrame(columns | {presence_column(name): present[:, i] for i, name in enumerate(names)})


def _read_index(path: Path, meta: Mapping[str, Any]) -> pd.DataFrame:
    """slices.parquet, in which everything is as store.json says.

    Raises:
        StoreError: it is missing or damaged, its rows were shuffled, or it is of another store.
    """
    try:
        found = pd.read_parquet(path)
    except FileNotFoundError:
        raise StoreError(f"{path} is missing", CURE) from None
    except (OSError, ValueError, KeyError, TypeError, NotImplementedError, ArrowException) as error:
        raise StoreError(f"{path} is damaged: it cannot be read ({str(error).splitlines()[0]})", CURE) from error
    expected = index_of(meta["scans"], meta["parameters"]["targets"])
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
