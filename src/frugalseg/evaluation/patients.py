"""The patient-by-patient part of a report: every organ of a scan, and a picture of where it is worst."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from frugalseg.dataset.targets import Targets, to_classes
from frugalseg.evaluation.case_row import CaseRow
from frugalseg.evaluation.overlays import Cut, Panel, ShownCase, draw_panel, read_shown
from frugalseg.evaluation.pairing import Pairs
from frugalseg.evaluation.policy import Outcome
from frugalseg.evaluation.statistics import mean_without_nan
from frugalseg.imaging.intensity import IntensityScale
from frugalseg.text import pluralize

MOST_PICTURES = 40
"""Patients with a picture, the worst: a picture takes about 150 kB of the page, and 6 MB are still sent by mail."""


@dataclass(frozen=True)
class PatientView:
    """One scan, with all its organs.

    Attributes:
        rows: its figures, organ by organ.
        dice: mean Dice over its organs; NaN where none has a value.
        panel: the slice with the largest disagreement, or None.
        note: why there is no picture, or no scan in it; or "".
    """

    case: str
    role: str
    rows: list[CaseRow]
    dice: float
    panel: Panel | None
    note: str

    @property
    def lowest(self) -> CaseRow | None:
        """The organ with the lowest Dice."""
        known = [row for row in self.rows if not math.isnan(row["dice"])]
        return min(known, key=lambda row: row["dice"]) if known else None

    @property
    def largest_volume_error(self) -> float:
        """The largest volume error of an organ, ml, without its sign; NaN where none has a value."""
        errors = [abs(row["volume_error_ml"]) for row in self.rows]
        return max((error for error in errors if not math.isnan(error)), default=math.nan)

    @property
    def remarks(self) -> list[str]:
        """What is wrong beyond overlap: organs missed, and organs that are not there."""
        counts = {word: sum(row.outcome is outcome for row in self.rows) for outcome, word in _REMARKS.items()}
        return [f"{pluralize(count, 'organ')} {word}" for word, count in counts.items() if count]


_REMARKS = {Outcome.MISSED: "missed", Outcome.FALSE_POSITIVE: "not in the reference"}


def list_patients(
    rows: Sequence[CaseRow],
    pairs: Pairs,
    images: Mapping[str, Path],
    targets: Targets,
    scale: IntensityScale | None,
) -> list[PatientView]:
    """The scans of these rows, the worst first: by mean Dice, those without any Dice last.

    Args:
        rows: one for each case and organ.
        pairs: paths of the masks.
        images: case id → scan.
        targets: organ → label values.
        scale: the model's intensity scale; percentiles where None.
    """
    by_case: dict[str, list[CaseRow]] = {}
    for row in rows:
        by_case.setdefault(row.case, []).append(row)
    means = {case: float(mean_without_nan(np.array([r["dice"] for r in own]), axis=0)) for case, own in by_case.items()}
    ordered = sorted(by_case, key=lambda case: (math.isnan(means[case]), means[case], case))
    views = []
    for rank, case in enumerate(ordered):
        panel, note = None, "A picture is drawn for the worst patients only." if rank >= MOST_PICTURES else ""
        if rank < MOST_PICTURES:
            shown = read_shown(case, pairs, images, scale)
            panel, note = draw_worst_slice(shown, targets), shown.note
        own = by_case[case]
        views.append(PatientView(case, own[0].role, own, means[case], panel, note))
    return views


def draw_worst_slice(shown: ShownCase, targets: Targets) -> Panel:
    """The axial slice on which the masks differ most, all organs together, with the outlines of every organ."""
    reference, prediction = (to_classes(mask, targets) for mask in (shown.reference, shown.prediction))
    wrong = np.count_nonzero(reference != prediction, axis=(0, 1))
    z = int(np.argmax(wrong if wrong.any() else np.count_nonzero(reference, axis=(0, 1))))
    area = wrong[z] * shown.spacing[0] * shown.spacing[1] / 100
    image = None if shown.image is None else shown.image[:, :, z]
    cut = Cut(image, reference[:, :, z], prediction[:, :, z], shown.spacing[:2])
    return draw_panel(cut, f"Axial slice {z + 1} of {len(wrong)}: largest disagreement, {area:.1f} cm² over all organs")
