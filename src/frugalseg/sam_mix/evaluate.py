"""`frugalseg sam-mix evaluate`: how well the classifier detects which slices, and which scans, show an organ.

`frugalseg evaluate` compares the masks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from frugalseg.dataset.annotated import require_whole_masks
from frugalseg.dataset.auroc import auroc
from frugalseg.dataset.targets import to_classes
from frugalseg.engine.files import check_out_file, write_json
from frugalseg.errors import PairingError, RunError
from frugalseg.imaging.find import find_masks
from frugalseg.imaging.labels import read_labels_on, read_own_labels
from frugalseg.imaging.volume import axial_slices, canonical
from frugalseg.options import SamMixEvaluateOptions
from frugalseg.records.predictions import PREDICTIONS_FILE, PredictionRecord
from frugalseg.text import align_columns, format_number

UNSEEN_ROLES = ("test", "new")
TABLE_FIGURES = ("auroc", "sensitivity", "specificity")

Presence = dict[str, float | int | None]
"""Name → figure (see `detection_figures`)."""
SliceDetections = tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]
"""Of a scan's slices the predicted probability of an organ, and whether the reference shows it; both (Z,)."""


def sam_mix_evaluate(options: SamMixEvaluateOptions) -> dict[str, dict[str, object]]:
    """Compare the probabilities in predictions.json with references, and write `options.out`.

    Returns:
        For the groups "unseen" (scans of the roles test and new) and "all": the cases, and organ → "slices" and
        "scans" → the figures of `detection_figures`. Groups without a case are omitted.

    Raises:
        RunError: the folder holds no prediction of SAM-Mix, or `out` exists.
        PairingError: no prediction has a reference, or one differs in the number of slices.
        ScanError: a reference cannot be read.
    """
    check_out_file(options.out)
    record = _read_record(options.predictions)
    if options.out.exists() and not options.overwrite:
        raise RunError(f"{options.out} exists", "choose another --out, or give --overwrite")
    references = find_masks(options.references)
    require_whole_masks(options.references, references)
    cases = [case for case in record.present if case in references]
    if not cases:
        raise PairingError(
            f"no prediction in {options.predictions} has a reference in {options.references}",
            "give prediction and reference of a case the same name",
        )
    seen = {case: _compare_case(case, references[case], options.predictions, record) for case in cases}
    groups = {"unseen": [case for case in cases if (record.roles or {})[case] in UNSEEN_ROLES], "all": cases}
    figures = {
        group: {organ: _figures_of_organ(seen, members, organ) for organ in record.trained}
        for group, members in groups.items()
        if members
    }
    result: dict[str, dict[str, object]] = {
        group: {"cases": groups[group], **of_organ} for group, of_organ in figures.items()
    }
    write_json(options.out, result)
    rows: list[tuple[str, ...]] = [("group", "scans", "organ", *TABLE_FIGURES)]
    for group, of_organ in figures.items():
        for organ, found in of_organ.items():
            shown = (format_number(found["slices"][name]) for name in TABLE_FIGURES)
            rows.append((group, str(len(groups[group])), organ, *shown))
    print("detection of slices that show an organ:")
    print(align_columns(rows))
    return result


def _read_record(folder: Path) -> PredictionRecord:
    record = PredictionRecord.read_beside(folder)
    if record is None or not record.trained:
        raise RunError(
            f"{folder} holds no prediction of SAM-Mix", "give the folder that `frugalseg sam-mix predict` wrote"
        )
    roles = record.roles or {}
    organs = record.trained.keys()
    if incomplete := [case for case, of_case in record.present.items() if case not in roles or organs - of_case.keys()]:
        raise PairingError(
            f"{folder / PREDICTIONS_FILE} is damaged: the role of {incomplete[0]} is missing, or the probabilities of "
            "an organ",
            PredictionRecord.CURE,
        )
    return record


def _compare_case(
    case: str, reference: Path, predictions: Path, record: PredictionRecord
) -> dict[str, SliceDetections]:
    """Organ → predicted probability and reference presence of each slice."""
    # Slices along the axes of the prediction, which are its scan's; the reference's may differ.
    prediction = read_own_labels(predictions / record.masks[case], record.find_scan(case, predictions), case)
    mask = read_labels_on(reference, prediction, case, ("reference", "prediction"))
    stack = axial_slices(canonical(mask)[0].array)
    classes = to_classes(stack, record.trained)
    predicted = record.present[case]
    found: dict[str, SliceDetections] = {}
    for i, organ in enumerate(record.trained):
        if len(predicted[organ]) != len(stack):
            raise PairingError(
                f"{reference} has {len(stack)} slices, the prediction of {case} {len(predicted[organ])}",
                "give the reference that belongs to the scan",
            )
        found[organ] = np.array(predicted[organ], float), (classes == i + 1).any(axis=(1, 2))
    return found


def _figures_of_organ(
    seen: Mapping[str, Mapping[str, SliceDetections]], cases: Sequence[str], organ: str
) -> dict[str, Presence]:
    pairs = [seen[case][organ] for case in cases]
    scans = np.array([scan_probability(p) for p, _ in pairs]), np.array([there.any() for _, there in pairs])
    return {
        "slices": detection_figures(np.concatenate([p for p, _ in pairs]), np.concatenate([t for _, t in pairs])),
        "scans": detection_figures(*scans),
    }


Numbers = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def detection_figures(probabilities: Numbers, present: Bools, cut: float = 0.5) -> Presence:
    """AUROC, accuracy, sensitivity and specificity at `cut`, and the numbers of positives and negatives.

    Args:
        probabilities: (N,).
        present: (N,) the reference.
        cut: predicted as present at and above this probability.

    Returns:
        auroc, accuracy, sensitivity, specificity, positives, negatives; None where undefined.
    """
    called = probabilities >= cut
    return {
        "auroc": auroc(probabilities, present),
        "accuracy": _mean_or_none(called == present),
        "sensitivity": _mean_or_none(called[present]),
        "specificity": _mean_or_none(~called[~present]),
        "positives": int(np.count_nonzero(present)),
        "negatives": int(np.count_nonzero(~present)),
    }


def scan_probability(probabilities: Numbers) -> float:
    """Probability that a scan shows an organ: the highest of its slices."""
    return float(probabilities.max())


def _mean_or_none(hits: Bools) -> float | None:
    return float(hits.mean()) if len(hits) else None
