"""One scan: read both masks, check their grids, measure every organ."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from frugalseg.dataset.targets import Targets
from frugalseg.errors import PairingError
from frugalseg.evaluation.case_row import CaseRow
from frugalseg.evaluation.lesions import compare_lesions
from frugalseg.evaluation.metrics import compare, organ_mask
from frugalseg.evaluation.slicewise import compare_slices
from frugalseg.imaging.labels import find_mask_object, read_labels_on, read_own_labels
from frugalseg.imaging.read import read_labels
from frugalseg.imaging.volume import Array, Volume, axial_slices, canonical


@dataclass(frozen=True)
class CaseJob:
    """The input for measuring one scan.

    Attributes:
        role: how the model used the scan (see `roles`).
        tolerance: of the surface Dice, mm.
        slicewise: whether to compute the slice-wise metrics too.
        threads: threads of the distance search.
        lesion_iou: IoU above which lesions are a pair; None: the lesion-wise metrics are not computed.
        annotated: manually annotated axial slices to leave out, counted from 0 at the inferior end.
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
    scan: Path | None = None
    lesion_iou: float | None = None


@dataclass(frozen=True)
class CaseResult:
    """One scan's figures.

    Attributes:
        rows: one per organ.
        reference_values, prediction_values: the label values of the two masks, without 0.
    """

    rows: list[CaseRow]
    reference_values: frozenset[int]
    prediction_values: frozenset[int]


def compare_case(job: CaseJob) -> CaseResult:
    """Measure every organ of one scan.

    Raises:
        ScanError: a mask cannot be read.
        PairingError: the masks have different grids, or every slice was annotated manually.
    """
    reference, prediction = read_pair(job.case, job.reference, job.prediction, job.scan)
    if job.annotated:
        reference, prediction = (_drop_annotated(job, mask) for mask in (reference, prediction))
    rows = []
    for organ, values in job.targets.items():
        a, b = organ_mask(reference.array, values), organ_mask(prediction.array, values)
        metrics = compare(a, b, reference.affine, job.tolerance, job.threads)
        figures = dict(metrics.values)
        if job.lesion_iou is not None:
            figures |= compare_lesions(a, b, job.lesion_iou).to_dict()
        if job.slicewise:
            upright, way = canonical(reference.with_array(a))
            other = way.apply(prediction.with_array(b))
            figures |= compare_slices(axial_slices(upright.array), axial_slices(other.array)).to_dict()
        rows.append(CaseRow(job.case, job.role, organ, metrics.outcome, figures))
    return CaseResult(rows, _find_values(reference.array), _find_values(prediction.array))


def read_pair(case: str, reference: Path, prediction: Path, scan: Path | None = None) -> tuple[Volume, Volume]:
    """Both masks of a case, with the prediction's grid and axes, which are those of its scan.

    Args:
        case: for messages.
        reference: the mask of a person.
        prediction: the mask to compare with it.
        scan: its scan, which defines the grid of a prediction that is DICOM SEG or RTSTRUCT; without one, it is that of
            the reference.

    Raises:
        PairingError: they have different grids.
        ScanError: a mask cannot be read, or neither mask nor scan defines a grid.
    """
    if scan is None and find_mask_object(prediction) is not None:
        predicted = read_labels_on(prediction, read_labels(reference), case)
    else:
        predicted = read_own_labels(prediction, scan, case)
    cure = "compare masks on the grid of the scan; resample the prediction to it with nearest neighbour"
    return read_labels_on(reference, predicted, case, ("reference", "prediction"), cure), predicted


def _drop_annotated(job: CaseJob, mask: Volume) -> Volume:
    """The mask in canonical axes, with the annotated slices removed (their neighbours become adjacent)."""
    upright, _ = canonical(mask)
    depth = upright.array.shape[2]
    if beyond := [z for z in job.annotated if not 0 <= z < depth]:
        raise PairingError(
            f"{job.case}: predictions.json lists slice {beyond[0]} as annotated, the masks have {depth} slices",
            "compare the masks that this predictions.json was written for",
        )
    kept = np.setdiff1d(np.arange(depth), job.annotated)
    if not len(kept):
        raise PairingError(
            f"{job.case}: every slice was annotated manually, none is left to compare",
            "leave the case out: name the other cases with --case",
        )
    return replace(upright, array=upright.array[:, :, kept])


def _find_values(labels: Array) -> frozenset[int]:
    # By hashing: sorting a large mask, as np.unique does, takes longer than all metrics together.
    return frozenset(int(v) for v in pd.unique(labels.ravel(order="K"))) - {0}
