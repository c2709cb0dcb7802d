"""One scan: read both masks, check that they belong together, measure every organ."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from frugalseg.dataset.targets import Targets
from frugalseg.errors import PairingError
from frugalseg.evaluation.case_row import CaseRow
from frugalseg.evaluation.metrics import compare, organ_mask
from frugalseg.evaluation.slicewise import compare_slices
from frugalseg.imaging.grids import onto_grid
from frugalseg.imaging.read import read_labels
from frugalseg.imaging.volume import Array, Volume, axial_slices, canonical


@dataclass(frozen=True)
class CaseJob:
    """What measuring one scan needs to know.

    Attributes:
        role: what the model knew of it (see `roles`).
        tolerance: of the surface Dice, mm.
        slicewise: whether to compute the papers' slice-wise figures too.
        threads: threads of the distance search.
        annotated: axial slices that are left out, counted from 0 at the inferior end: a person had drawn them.
    """

    case: str
    role: str
    reference: Path
    prediction: Path
    targets: Targets
    tolerance: float
    slicewise: bool
    threads: int
    annotated: tuple[int, ...] = ()


@dataclass(frozen=True)
class CaseResult:
    """One scan's figures.

    Attributes:
        records: one an organ.
        reference_values, prediction_values: the label values of the two masks, 0 left out.
    """

    records: list[CaseRow]
    reference_values: frozenset[int]
    prediction_values: frozenset[int]


def compare_case(job: CaseJob) -> CaseResult:
    """Measure every organ of one scan.

    Raises:
        ScanError: a mask cannot be read.
        PairingError: the masks lie on different grids, or nothing is left of them without the annotated slices.
    """
    reference, prediction = read_pair(job.case, job.reference, job.prediction)
    if job.annotated:
        reference, prediction = (_without(job, mask) for mask in (reference, prediction))
    records = []
    for organ, values in job.targets.items():
        a, b = organ_mask(reference.array, values), organ_mask(prediction.array, values)
        metrics = compare(a, b, reference.affine, job.tolerance, job.threads)
        figures = dict(metrics.values)
        if job.slicewise:
            upright, way = canonical(reference.with_array(a))
            other = way.apply(prediction.with_array(b))
            figures |= compare_slices(axial_slices(upright.array), axial_slices(other.array)).to_dict()
        records.append(CaseRow(job.case, job.role, organ, metrics.outcome, figures))
    return CaseResult(records, _values(reference.array), _values(prediction.array))


def read_pair(case: str, reference: Path, prediction: Path) -> tuple[Volume, Volume]:
    """Both masks of a case, on the prediction's grid and axes, which are those of its scan.

    Raises:
        PairingError: they lie on different grids.
    """
    made = read_labels(prediction)
    cure = "compare masks on the grid of the scan; resample the prediction to it with nearest neighbour"
    return onto_grid(read_labels(reference), made, case, ("reference", "prediction"), cure), made


def _without(job: CaseJob, mask: Volume) -> Volume:
    """The mask without the annotated slices, whose neighbours close up; in canonical axes."""
    upright, _ = canonical(mask)
    depth = upright.array.shape[2]
    if beyond := [z for z in job.annotated if not 0 <= z < depth]:
        raise PairingError(
            f"{job.case}: predictions.json lists slice {beyond[0]} as annotated, the masks have {depth} slices",
            "compare the masks that belong to the predictions.json beside them",
        )
    kept = np.setdiff1d(np.arange(depth), job.annotated)
    if not len(kept):
        raise PairingError(f"{job.case}: every slice was annotated, none is left to compare", "leave it out by --case")
    return replace(upright, array=upright.array[:, :, kept])


def _values(labels: Array) -> frozenset[int]:
    # By hashing: sorting a large mask, as np.unique does, takes longer than all metrics together.
    return frozenset(int(v) for v in pd.unique(labels.ravel(order="K"))) - {0}
