"""What is written of a mask beside it: statistics, and a preview where it is wanted."""

from __future__ import annotations

from dataclasses import replace

from frugalseg.imaging.intensity import IntensityScale
from frugalseg.imaging.volume import Volume
from frugalseg.masks.statistics import measure_organs
from frugalseg.masks.work import MadeMask


def describe(made: MadeMask, case: str, scan: Volume, scale: IntensityScale, preview: bool) -> MadeMask:
    """The mask with the statistics of its organs in its record, and its preview among the files beside it.

    Args:
        made: the mask, in memory, and its organs.
        case: case id.
        scan: its scan.
        scale: the grey values of the preview.
        preview: whether to draw one.
    """
    mask = made.mask
    assert isinstance(mask, Volume)
    organs = made.output.organs or {}
    record = replace(made.record, statistics=measure_organs(scan, mask, organs))
    made = replace(made, record=record)
    if not preview:
        return made
    from frugalseg.masks.preview import draw_preview

    return replace(made, beside={**made.beside, **draw_preview(case, scan, mask, organs, scale, record)})


def list_previews(case: str, preview: bool) -> list[str]:
    """The files of a case's preview, beside its mask; none where no preview is wanted."""
    from frugalseg.masks.preview import FOLDER

    return [f"{FOLDER}/{case}.png", f"{FOLDER}/{case}.html"] if preview else []
