"""`frugalseg sam-mix evaluate`: how well the classifier told which slices, and which scans, show an organ.

The masks are `frugalseg evaluate`'s matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from frugalseg.dataset.targets import to_classes
from frugalseg.engine.files import check_out_file, write_json
from frugalseg.engine.forms import fault
from frugalseg.errors import PairingError, RunError
from frugalseg.imaging.find import find_masks
from frugalseg.imaging.grids import onto_grid
from frugalseg.imaging.read import read_labels
from frugalseg.imaging.volume import axial_slices, canonical
from frugalseg.masks.folder import NOTE, NOTED
from frugalseg.options import SamMixEvaluateOptions
from frugalseg.text import aligned, number

UNSEEN = ("test", "new")
SHOWN = ("auroc", "sensitivity", "specificity")

Seen = tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]
"""Of a scan's slices the probability of an organ, and whether it is there; both (Z,)."""


def sam_mix_evaluate(options: SamMixEvaluateOptions) -> dict[str, Any]:
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
    note = _note(options.predictions)
    if options.out.exists() and not options.overwrite:
        raise RunError(f"{options.out} is there", "choose another --out, or give --overwrite")
    references = find_masks(options.references)
    cases = [case for case in note["present"] if case in references]
    if not cases:
        raise PairingError(
            f"no prediction in {options.predictions} has a reference in {options.references}",
            "give prediction and reference of a case the same name",
        )
    seen = {case: _look(case, references[case], options.predictions, note) for case in cases}
    groups = {"unseen": [case for case in cases if note["roles"][case] in UNSEEN], "all": cases}
    result: dict[str, dict[str, Any]] = {
        group: {"cases": members, **{organ: _figures(seen, members, organ) for organ in note["trained"]}}
        for group, members in groups.items()
        if members
    }
    write_json(options.out, result)
    rows = [("group", "scans", "organ", *SHOWN)]
    for group, told in result.items():
        for organ in note["trained"]:
            figures = told[organ]["slices"]
            rows.append((group, str(len(groups[group])), organ, *(number(figures[name]) for name in SHOWN)))
    print("detection of slices that show an organ:")
    print(aligned(rows))
    return result


def _note(folder: Path) -> dict[str, Any]:
    path = folder / NOTE
    content: dict[str, Any] = NOTED.read(path) if path.is_file() else {}
    if "present" not in content or "trained" not in content:
        raise RunError(
            f"{folder} holds no prediction of SAM-Mix", "give the folder that `frugalseg sam-mix predict` wrote"
        )
    if wrong := fault(content, {"present": {str: {str: [float]}}, "trained": {str: [int]}, "roles": {str: str}}):
        raise NOTED.damaged(path, wrong)
    untold = [
        c for c, told in content["present"].items() if c not in content["roles"] or {*content["trained"]} - {*told}
    ]
    if untold:
        raise NOTED.damaged(path, f"it does not state the role of {untold[0]}, or not of all organs where they are")
    return content


def _look(case: str, reference: Path, predictions: Path, note: Mapping[str, Any]) -> dict[str, Seen]:
    """Organ → what was said of each slice, and what is so."""
    # The slices are those of the prediction, which has its scan's axes; the reference may have others.
    prediction = read_labels(predictions / note["masks"][case])
    mask = onto_grid(read_labels(reference), prediction, case, ("reference", "prediction"))
    stack = axial_slices(canonical(mask)[0].array)
    classes = to_classes(stack, {organ: tuple(values) for organ, values in note["trained"].items()})
    told = note["present"][case]
    found: dict[str, Seen] = {}
    for i, organ in enumerate(note["trained"]):
        if len(told[organ]) != len(stack):
            raise PairingError(
                f"{reference} has {len(stack)} slices, the prediction of {case} {len(told[organ])}",
                "give the reference that belongs to the scan",
            )
        found[organ] = np.array(told[organ], float), (classes == i + 1).any(axis=(1, 2))
    return found


def _figures(seen: Mapping[str, Mapping[str, Seen]], cases: Sequence[str], organ: str) -> dict[str, Any]:
    pairs = [seen[case][organ] for case in cases]
    scans = np.array([of_scan(p) for p, _ in pairs]), np.array([there.any() for _, there in pairs])
    return {
        "slices": presence_figures(np.concatenate([p for p, _ in pairs]), np.concatenate([t for _, t in pairs])),
        "scans": presence_figures(*scans),
    }


Numbers = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def auroc(probabilities: Numbers, present: Bools) -> float | None:
    """Area under the ROC curve: the chance that one that shows the organ ranks above one that does not.

    By ranks (Mann-Whitney), equal ones counted half. None where all show it, or none does.
    """
    positives = int(np.count_nonzero(present))
    negatives = len(present) - positives
    if not positives or not negatives:
        return None
    ranks = rankdata(probabilities)
    return float((ranks[present].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def presence_figures(probabilities: Numbers, present: Bools, cut: float = 0.5) -> dict[str, float | int | None]:
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
