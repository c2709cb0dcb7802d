"""Renamed options: the command line, config files and plans refuse the old name and state the new one."""

from __future__ import annotations

from collections.abc import Collection

RENAMED = {
    "at_once": "jobs",
    "average_with": "model",
    "cases": "phantoms",
    "consistent": "smooth_slices",
    "dense": "dense_prompt",
    "draw": "label_draw",
    "flips": "tta",
    "inter": "inter_weight",
    "intra": "intra_weight",
    "margin": "margin_mm",
    "min_dz": "min_distance_mm",
    "pixels": "max_pixels",
    "queue": "queue_size",
    "range": "slice_range",
    "rank": "lora_rank",
    "restart": "restart_epochs",
    "smallest": "min_area_mm2",
    "tau": "temperature",
    "threshold": "map_threshold",
    "tolerance": "tolerance_mm",
}
"""Former name of an option → current name."""

RENAMED_VALUES = {("boxes", "body"): "component-3d", ("engine", "project"): "box"}
"""Option and former value → current value."""


def current_name(name: str, known: Collection[str]) -> str:
    """The current name of an option.

    Args:
        name: as it was given.
        known: the options of the command.

    Returns:
        The new name, if the option was renamed and the command has it; otherwise `name` itself.
    """
    new = RENAMED.get(name, name)
    return new if name not in known and new in known else name


def current_value(name: str, value: object) -> object:
    """The current value of an option: the new one where it was renamed, otherwise `value` itself."""
    return RENAMED_VALUES.get((name, value), value) if isinstance(value, str) else value
