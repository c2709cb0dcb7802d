"""OME-Zarr images (OME-NGFF 0.4 and 0.5), through TensorStore.

The metadata are read here. TensorStore decodes the voxels: it checks damaged chunks before it decodes them, and has no
codec that can run code (zarr's Blosc reads beyond the end of a damaged chunk, and its codec pickle runs what it says).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from frugalseg.errors import ScanError
from frugalseg.imaging.plausibility import require_plausible
from frugalseg.imaging.validation import require_real_numbers, scan_error, to_working_dtype
from frugalseg.imaging.volume import Array, Placement, Volume, format_shape

EXTRA = "install it with `pip install 'frugalseg[zarr]'`, or convert the scan to NIfTI"

UNITS_MM = {
    **{"millimeter": 1.0, "centimeter": 10.0, "decimeter": 100.0, "meter": 1000.0},
    **{"micrometer": 1e-3, "nanometer": 1e-6},
}
"""Name of a unit of length → mm."""

DIRECTIONS: Mapping[str, tuple[float, float, float]] = {
    "left-to-right": (1, 0, 0),
    "right-to-left": (-1, 0, 0),
    "posterior-to-anterior": (0, 1, 0),
    "anterior-to-posterior": (0, -1, 0),
    "inferior-to-superior": (0, 0, 1),
    "superior-to-inferior": (0, 0, -1),
    "caudal-to-cranial": (0, 0, 1),
    "cranial-to-caudal": (0, 0, -1),
}
"""Orientation of an axis (RFC 4 of OME-NGFF) → its direction in RAS."""

LPS = {"x": "right-to-left", "y": "anterior-to-posterior", "z": "inferior-to-superior"}
"""Orientation of axes that state none: that of DICOM and ITK."""

_HEADERS = (".zarray", "zarr.json")
_CONVERT = "export it as OME-Zarr 0.4 or 0.5 with one channel, or convert it to NIfTI"


@dataclass(frozen=True)
class Axis:
    """A spatial axis of the array.

    Attributes:
        place: its number in the array.
        scale, translation: mm.
        direction: in RAS.
    """

    place: int
    scale: float
    translation: float
    direction: tuple[float, float, float]


def load_ome_zarr(path: Path) -> Volume:
    """The volume of an OME-Zarr folder: the largest resolution of its first image, with axes x, y, z.

    Scale, translation, unit and orientation (RFC 4) of the axes are those of its metadata. The array keeps the stored
    integer type and is float32 otherwise.

    Raises:
        ScanError: it is damaged, of another version, not 3D, or has several channels or time points; a codec is
            not known, or TensorStore is not installed.
    """
    try:
        return _load(path)
    except (ScanError, MemoryError):
        raise
    except Exception as error:  # damaged metadata raise many kinds of exceptions
        text = (str(error) or "no reason").splitlines()[0].partition(" [tensorstore_spec")[0]
        problem = f"is damaged, or stored in a way that is not supported ({type(error).__name__}: {text})"
        raise scan_error(path, problem) from error


def _load(path: Path) -> Volume:
    image = _read_multiscales(path)
    dataset = image["datasets"][0]
    folder = _find_array(path, dataset["path"])
    shape = _check_header(path, folder)
    axes, doubts = _read_axes(path, image, dataset, shape)
    array, missing = _read_voxels(path, folder)
    others = tuple(place for place in range(array.ndim) if place not in [axis.place for axis in axes])
    array = array.transpose([*(axis.place for axis in axes), *others]).reshape([array.shape[a.place] for a in axes])
    affine = np.eye(4)
    for column, axis in enumerate(axes):
        affine[:3, column] = np.array(axis.direction) * axis.scale
        affine[:3, 3] += np.array(axis.direction) * axis.translation
    return Volume(array, affine, path, Placement(doubts=(*doubts, *missing)))


def _read_multiscales(path: Path) -> Mapping[str, Any]:
    """The metadata of the first image."""
    for name, parents in (("zarr.json", ("attributes", "ome")), (".zattrs", ())):
        if (path / name).is_file():
            content = _read_json(path / name)
            for parent in parents:
                content = content.get(parent, {})
            break
    else:
        raise scan_error(path, "is no OME-Zarr image: it has neither zarr.json nor .zattrs", _CONVERT)
    if not content.get("multiscales"):
        raise scan_error(path, "is no OME-Zarr image: its metadata has no multiscales", _CONVERT)
    image: Mapping[str, Any] = content["multiscales"][0]
    if not all(isinstance(axis, Mapping) for axis in image.get("axes") or [None]):
        version = content.get("version") or image.get("version") or "unknown"
        raise scan_error(path, f"is OME-Zarr of version {version}, which states axes in another way", _CONVERT)
    return image


def _read_json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _find_array(path: Path, name: str) -> Path:
    parts = PurePosixPath(name).parts
    if PurePosixPath(name).is_absolute() or ".." in parts:
        raise scan_error(path, f"names voxels outside its folder ({name})", _CONVERT)
    return path.joinpath(*parts)


def _check_header(path: Path, folder: Path) -> tuple[int, ...]:
    """The shape that the array claims, if there is memory for it and for a chunk."""
    header = next((folder / name for name in _HEADERS if (folder / name).is_file()), None)
    if header is None:
        raise scan_error(path, f"lacks its voxels in {folder.name}/", "copy or export it again, with all sub-folders")
    content = _read_json(header)
    shape = tuple(int(size) for size in content["shape"])
    voxel_bytes = np.dtype(content.get("dtype") or content["data_type"]).itemsize
    chunks = content.get("chunks") or content["chunk_grid"]["configuration"]["chunk_shape"]
    for claimed in (shape, tuple(int(size) for size in chunks)):
        require_plausible(path, claimed, voxel_bytes, 0, "other")
    return shape


def _read_axes(
    path: Path, image: Mapping[str, Any], dataset: Mapping[str, Any], shape: Sequence[int]
) -> tuple[list[Axis], tuple[str, ...]]:
    """The axes x, y, z, and what is doubtful about them."""
    axes = image["axes"]
    if len(axes) != len(shape):
        raise scan_error(path, f"names {len(axes)} axes for an array of {format_shape(shape)}")
    names = [str(axis.get("name")).lower() for axis in axes]
    if missing := [name for name in "xyz" if name not in names]:
        raise scan_error(path, f"has no axis {missing[0]}: it is not a 3D image", "give one 3D volume per scan")
    if several := [place for place, name in enumerate(names) if name not in "xyz" and shape[place] > 1]:
        kind = {"c": "channels", "t": "time points"}.get(names[several[0]], f"values on axis {names[several[0]]}")
        problem = f"has {shape[several[0]]} {kind}; one is supported"
        raise scan_error(path, problem, "write each as a scan of its own")
    scales, shifts = _read_transformations(path, image, dataset, len(axes))
    made, doubts = [], []
    stated = {name: (axes[names.index(name)].get("orientation") or {}).get("value") for name in "xyz"}
    for name in "xyz":
        place = names.index(name)
        unit = axes[place].get("unit")
        if unit is not None and unit not in UNITS_MM:
            raise scan_error(path, f"has the unit {unit} on axis {name}", f"use one of {', '.join(UNITS_MM)}")
        way = stated[name] or LPS[name]
        if way not in DIRECTIONS:
            raise scan_error(path, f"has the orientation {way} on axis {name}", f"use one of {', '.join(DIRECTIONS)}")
        mm = UNITS_MM.get(unit, 1.0)
        made.append(Axis(place, scales[place] * mm, shifts[place] * mm, DIRECTIONS[way]))
        if unit is None:
            doubts.append(f"states no unit of length on axis {name}; mm are assumed")
    if not all(stated.values()):
        doubts.append(
            "does not state the orientation of its axes; x is taken as towards the patient's left, y as towards the "
            "back, z as towards the head"
        )
    return made, tuple(doubts)


def _read_transformations(
    path: Path, image: Mapping[str, Any], dataset: Mapping[str, Any], count: int
) -> tuple[list[float], list[float]]:
    """Scale and translation of each axis, in its unit; those of the image are applied after those of the array."""
    scales, shifts = [1.0] * count, [0.0] * count
    steps = [*dataset["coordinateTransformations"], *(image.get("coordinateTransformations") or ())]
    for step in steps:
        kind = step["type"]
        if kind == "identity":
            continue
        if kind not in ("scale", "translation") or not isinstance(step.get(kind), list):
            raise scan_error(path, f"has a {kind} transformation; scale and translation are supported", _CONVERT)
        values = [float(value) for value in step[kind]]
        if len(values) != count or not all(map(math.isfinite, values)):
            raise scan_error(path, f"has a {kind} of {len(values)} values for {count} axes")
        if kind == "scale":
            scales = [a * b for a, b in zip(scales, values, strict=True)]
            shifts = [a * b for a, b in zip(shifts, values, strict=True)]
        else:
            shifts = [a + b for a, b in zip(shifts, values, strict=True)]
    return scales, shifts


def _read_voxels(path: Path, folder: Path) -> tuple[Array, tuple[str, ...]]:
    """The voxels in the axes of the array, and a doubt if a part of them is not there."""
    try:
        import tensorstore
    except ImportError:
        raise scan_error(path, "is OME-Zarr, which needs the package tensorstore", EXTRA) from None
    driver = "zarr" if (folder / ".zarray").is_file() else "zarr3"
    where = {"driver": "file", "path": f"{folder.absolute()}/"}
    stored = tensorstore.open({"driver": driver, "kvstore": where}, open=True, read=True).result()
    require_real_numbers(path, stored.dtype.numpy_dtype)
    array: Array = to_working_dtype(stored.read().result())
    whole = bool(stored.storage_statistics(query_fully_stored=True).result().fully_stored)
    if whole:
        return array, ()
    return array, (
        "does not hold all of its chunks, and those that are missing are read as 0: its program left out empty ones, "
        "or the copy is incomplete",
    )
