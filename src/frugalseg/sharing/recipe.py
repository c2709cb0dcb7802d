"""recipe.json: all that happens before and after an exported network, in numbers and in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from frugalseg._version import __version__
from frugalseg.imaging.read import read_volume
from frugalseg.imaging.volume import CANONICAL, axial_slices, canonical
from frugalseg.masks.components import BRIDGE_RADIUS
from frugalseg.models.registry import input_channels
from frugalseg.records.networks import SegmenterRecord
from frugalseg.records.recipe import ExportCheck, ExportRecipe
from frugalseg.sharing.network import INPUT, OUTPUT, Floats
from frugalseg.sharing.processing import Processing


def read_squares(scan: Path, record: SegmenterRecord) -> Floats:
    """All slices of a scan as the exported network sees them, (Z, 2·context + 1, S, S)."""
    upright, _ = canonical(read_volume(scan))
    rows_mm, columns_mm = float(upright.spacing[1]), float(upright.spacing[0])
    return Processing(_settings(record)).prepare(axial_slices(upright.array), (rows_mm, columns_mm))


def make_recipe(record: SegmenterRecord, weights_sha256: str, check: ExportCheck) -> ExportRecipe:
    """The recipe of an exported model."""
    size, channels = record.preprocessing.size, input_channels(record.context)
    organs = ", ".join(record.targets)
    return ExportRecipe(
        version=__version__,
        weights_sha256=weights_sha256,
        axes="".join(CANONICAL),
        input=f"{INPUT}: float32 (n, {channels}, {size}, {size})",
        output=f"{OUTPUT}: float32 (n, {1 + len(record.targets)}, {size}, {size}); background, {organs}",
        steps=_list_steps(record),
        check=check,
        **_settings(record) | {"intensity": record.preprocessing.intensity},
    )


def _settings(record: SegmenterRecord) -> dict[str, Any]:
    """The part that `Processing` uses."""
    scale = record.preprocessing.intensity
    return {
        "organs": dict(record.targets),
        "size": record.preprocessing.size,
        "context": record.context,
        "intensity": {"kind": scale.kind, "low": scale.low, "high": scale.high},
        "keep": {organ: record.keep[organ] for organ in record.targets},
        "bridge_radius": BRIDGE_RADIUS,
    }


def _list_steps(record: SegmenterRecord) -> tuple[str, ...]:
    scale = record.preprocessing.intensity
    percentiles = f"percentiles {scale.low:g} and {scale.high:g} of the scan"
    limits = f"{scale.low:g} and {scale.high:g} HU" if scale.kind == "ct" else percentiles
    return (
        "Permute and flip the axes of the scan, without resampling, to L, P, S (left, posterior, superior).",
        f"Scale intensities linearly, so that {limits} become 0 and 1, and clip.",
        "Resize each axial slice (rows along P, columns along L) bilinearly, anti-aliased where it shrinks, so that "
        f"its longer side in mm has {record.preprocessing.size} pixels; pad the other with 0, equally on both sides.",
        f"Give the network each slice with {record.context} neighbours below and above it as channels; beyond the ends "
        "of the scan the last slice is repeated.",
        "A slice of one value throughout shows no organ: set its probabilities of all organs to 0.",
        "Remove the padding, resize the probabilities bilinearly to the slice, and take the likeliest class.",
        "Keep of each organ what `keep` states. all: everything. largest: its largest component (26 neighbours). core: "
        "the largest component of its eroded mask, dilated within the mask: without what hangs on thin connections.",
        "Write the first label value of each organ, and undo the permutation and flips.",
    )
