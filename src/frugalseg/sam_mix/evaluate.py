"""`frugalseg sam-mix evaluate`: how well the classifier told which slices, and which scans, show an organ.

The masks are `frugalseg evaluate`'s matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from frugalseg.dataset.auroc import auroc
from frugalseg.dataset.targets import to_classes
from frugalseg.engine.files import check_out_file, write_json
from frugalseg.errors import PairingError, RunError
from frugalseg.imaging.find import find_masks
from frugalseg.imaging.grids import onto_grid
from frugalseg.imaging.read import read_labels
from frugalseg.imaging.volume import axial_slices, canonical
from frugalseg.options import SamMixEvaluateOptions
from frugalseg.records.predictions import PREDICTIONS_FILE, PredictionRecord
from frugalseg.text import align_columns, format_number

UNSEEN = ("test", "new")
SHOWN = ("auroc", "sensitivity", "specificity")

Presence = dict[str, float | int | None]
"""Name → figure (see `presence_figures`)."""
Seen = tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]
"""Of a scan's slices the probability of an organ, and whether it is there; both (Z,)."""


def sam_mix_evaluate(options: SamMixEvaluateOptions) -> dict[str, dict[str, object]]:
    """Compare the probabilities in predictions.json with references, and write `options.out`.

    Returns:
        For the groups "unseen" (scans of the roles test and new) and "all": the cases, and organ → "slices" and
        "scans" → the figures of `presence.presence_figures`. A group without a case is left out.

    Raises:
        RunError: the folder holds no prediction of SAM-Mix, or `out` is there.
        PairingError: no prediction has a reference, or one has another number of slices.
        ScanError: a reference cannot be read.
    """
    check_out_file(options.out)
    record = _read(options.predictions)
    if options.out.exists() and not options.overwrite:
        raise RunError(f"{options.out} is there", "choose another --out, or give --overwrite")
    references = find_masks(options.references)
    cases = [case for case in record.present if case in references]
    if not cases:
        raise PairingError(
            f"no prediction in {options.predictions} has a reference in {options.references}",
            "give prediction and reference of a case the same name",
        )
    seen = {case: _look(case, references[case], options.predictions, record) for case in cases}
    groups = {"unseen": [case for case in cases if (record.roles or {})[case] in UNSEEN], "all": cases}
    figures = {
        group: {organ: _figures(seen, members, organ) for organ in record.trained}
        for group, members in groups.items()
        if members
    }
    result: dict[str, dict[str, object]] = {
        group: {"cases": groups[group], **of_organ} for group, of_organ in figures.items()
    }
    write_json(options.out, result)
    rows: list[tuple[str, ...]] = [("group", "scans", "organ", *SHOWN)]
    for group, of_organ in figures.items():
        for organ, shown in of_organ.items():
            rows.append(
                (group, str(len(groups[group])), organ, *(format_number(shown["slices"][name]) for name in SHOWN))
            )
    print("detection of slices that show an organ:")
    print(align_columns(rows))
    return result


def _read(folder: Path) -> PredictionRecord:
    record = PredictionRecord.read_beside(folder)
    if record is None or not record.trained:
        raise RunError(
            f"{folder} holds no prediction of SAM-Mix", "give the folder that `frugalseg sam-mix predict` wrote"
        )
    roles = record.roles or {}
    if untold := [c for c, told in record.present.items() if c not in roles or record.trained.keys() - told.keys()]:
        raise PairingError(
            f"{folder / PREDICTIONS_FILE} is damaged: it does not tell the role of {untold[0]}, or not of all organs "
            "where they are",
            PredictionRecord.CURE,
        )
    return record


def _look(case: str, reference: Path, predictions: Path, record: PredictionRecord) -> dict[str, Seen]:
    """Organ → what was said of each slice, and what is so."""
    # The slices are those of the prediction, which has its scan's axes; the reference may have others.
    prediction = read_labels(predictions / record.masks[case])
    mask = onto_grid(read_labels(reference), prediction, case, ("reference", "prediction"))
    stack = axial_slices(canonical(mask)[0].array)
    classes = to_classes(stack, record.trained)
    told = record.present[case]
    found: dict[str, Seen] = {}
    for i, organ in enumerate(record.trained):
        if len(told[organ]) != len(stack):
            raise PairingError(
                f"{reference} has {len(stack)} slices, the prediction of {case} {len(told[organ])}",
                "give the reference that belongs to the scan",
            )
        found[organ] = np.array(told[organ], float), (classes == i + 1).any(axis=(1, 2))
    return found


def _figures(seen: Mapping[str, Mapping[str, Seen]], cases: Sequence[str], organ: str) -> dict[str, Presence]:
    pairs = [seen[case][organ] for case in cases]
    scans = np.array([of_scan(p) for p, _ in pairs]), np.array([there.any() for _, there in pairs])
    return {
        "slices": presence_figures(np.concatenate([p for p, _ in pairs]), np.concatenate([t for _, t in pairs])),
        "scans": presence_figures(*scans),
    }


Numbers = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def presence_figures(probabilities: Numbers, present: Bools, cut: float = 0.5) -> Presence:
    """AUROC, accuracy, sensitivity and specificity at `cut`, and how many there are.

    Args:
        probabilities: (N,).
        present: (N,) the truth.
        cut: called present from here on.

    Returns:
        auroc, accuracy, sensitivity, specificity, positives, negatives; None where there is nothing to count.
    """
    called = probabilities >= cut
    return {
        "auroc": auroc(probabilities, present),
        "accuracy": _share(called == present),
        "sensitivity": _share(called[present]),
        "specificity": _share(~called[~present]),
        "positives": int(np.count_nonzero(present)),
        "negatives": int(np.count_nonzero(~present)),
    }


def of_scan(probabilities: Numbers) -> float:
    """Probability that a scan shows an organ: that of its surest slice."""
    return float(probabilities.max())


def _share(hits: Bools) -> float | None:
    return float(hits.mean()) if len(hits) else None
