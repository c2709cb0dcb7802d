"""OME-Zarr images for tests, written with zarr and metadata by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

MM = "millimeter"
LPS = {"x": "right-to-left", "y": "anterior-to-posterior", "z": "inferior-to-superior"}


def axis(name: str, unit: str | None = MM, way: str | None = None) -> dict[str, object]:
    kind = {"c": "channel", "t": "time"}.get(name, "space")
    made: dict[str, object] = {"name": name, "type": kind}
    if kind == "space" and unit is not None:
        made["unit"] = unit
    if kind == "space" and (way := way or LPS.get(name)):
        made["orientation"] = {"type": "anatomical", "value": way}
    return made


def write_zarr(
    folder: Path,
    array: npt.NDArray[np.generic],
    axes: Sequence[Mapping[str, object]] | None = None,
    scale: Sequence[float] = (),
    translation: Sequence[float] = (),
    version: str = "0.4",
    **options: object,
) -> Path:
    """One image of one resolution; the scale is that of the axes in their order."""
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(str(folder), mode="w", zarr_format=2 if version == "0.4" else 3)
    chunks = options.pop("chunks", tuple(max(1, size // 2) for size in array.shape))
    stored = group.create_array("0", shape=array.shape, dtype=array.dtype, chunks=chunks, **options)
    stored[...] = array
    steps = [{"type": "scale", "scale": list(scale or (1.0,) * array.ndim)}]
    steps += [{"type": "translation", "translation": list(translation)}] if translation else []
    image = {
        "version": version,
        "axes": list(axes or [axis(name) for name in "zyx"]),
        "datasets": [{"path": "0", "coordinateTransformations": steps}],
    }
    metadata = {"multiscales": [image]}
    group.attrs.update(metadata if version == "0.4" else {"ome": {"version": version, **metadata}})
    return folder
