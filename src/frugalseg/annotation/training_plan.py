"""What a training would learn from now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from frugalseg.annotation.job_work import JobContext
from frugalseg.annotation.slices import LABELLED
from frugalseg.imaging.modality import MODALITY_NAMES
from frugalseg.options import FinetuneOptions
from frugalseg.options.common import BackboneName
from frugalseg.weights.folder import find_installed

STEPS = 300
"""Default number of optimiser steps of a training between two looks at the masks."""
SIZE, FROZEN_SIZE = 128, 256
"""Default width of the slices in pixels: of a U-Net, and of a light decoder on the features of a promptable model."""
LEAST_VALIDATED = 3
"""Number of outlined scans from which one is kept for validation."""


@dataclass(frozen=True)
class TrainingPlan:
    """What a training would learn from.

    Attributes:
        targets: label names that are drawn in some slice with a label: name → value.
        slices: number of slices with a label.
        cases: the cases that have some.
        backbone: what is trained by default: a light decoder on the features of the session's promptable model, where
            its weights are installed, otherwise a U-Net.
        modality: CT or MR, as the first of the cases is; empty where that is not known.
    """

    targets: dict[str, int]
    slices: int
    cases: tuple[str, ...]
    backbone: str
    modality: str

    @property
    def validation(self) -> int:
        """Number of scans that are kept for validation, as `prepare` splits them."""
        return max(1, round(0.15 * len(self.cases))) if len(self.cases) >= LEAST_VALIDATED else 0


def plan_training(context: JobContext) -> TrainingPlan:
    """What a training would learn from now."""
    marks = ", ".join("?" * len(LABELLED))
    query = f"SELECT case_id, present FROM slices WHERE source IN ({marks})"
    rows = [row for row in context.slices.database.all(query, LABELLED) if row["case_id"] in context.scans.paths]
    drawn = {value for row in rows for value in row["present"]}
    targets = {label.name: label.value for label in context.labels.all() if label.value in drawn}
    model = context.options.model
    backbone = model if model in find_installed() else FinetuneOptions.backbone
    cases = tuple(sorted({row["case_id"] for row in rows}))
    return TrainingPlan(targets, len(rows), cases, backbone, _find_modality(context, cases))


def _find_modality(context: JobContext, cases: Sequence[str]) -> str:
    kind = context.scans.open(cases[0]).kind if cases else None
    return "" if kind is None else MODALITY_NAMES[kind]


def is_frozen(backbone: str) -> bool:
    """Whether a backbone is an encoder that stays as it is, with a light decoder on its features."""
    return backbone not in get_args(BackboneName)


def choose_size(backbone: str) -> int:
    """The default width of the slices for a backbone."""
    return FROZEN_SIZE if is_frozen(backbone) else SIZE
