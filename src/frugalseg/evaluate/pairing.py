"""Which prediction is compared with which reference."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from frugalseg.errors import PairingError
from frugalseg.evaluate.roles import PredictionNote
from frugalseg.imaging.find import find_scans

SHOWN = 10


@dataclass(frozen=True)
class Pairs:
    """What is compared.

    Attributes:
        masks: case id → (reference, prediction), sorted by id.
        not_predicted: case id of a reference → why `frugalseg predict` could not segment it.
    """

    masks: dict[str, tuple[Path, Path]]
    not_predicted: dict[str, str]


def find_pairs(references: Path, predictions: Path, note: PredictionNote | None) -> Pairs:
    """Pair by case id; every mask must have its partner.

    A reference may lack its prediction only where the note says that the scan could not be segmented: the case is
    then named in every result, never just missing.

    Raises:
        PairingError: masks without partners, all of them counted and the first named.
        ScanError: a folder does not exist or holds no masks.
    """
    given, made = find_scans(references), find_scans(predictions)
    unknown = [case for case in made if case not in given]
    if unknown:
        raise PairingError(
            f"{len(unknown)} predictions in {predictions} have no reference in {references}: {_some(unknown)}",
            "add their references, or keep these predictions in another folder; "
            "prediction and reference of a case are named alike",
        )
    excused = {} if note is None else {case: note.failed[case] for case in given if case in note.failed}
    not_predicted = {case: why for case, why in excused.items() if case not in made}
    lost = [case for case in given if case not in made and case not in not_predicted]
    if lost:
        raise PairingError(
            f"{len(lost)} references in {references} have no prediction in {predictions}: {_some(lost)}",
            "predict these scans too, or keep their references in another folder; "
            "a mean over only the cases that were predicted would flatter",
        )
    return Pairs({case: (given[case], made[case]) for case in given if case in made}, not_predicted)


def _some(cases: Iterable[str]) -> str:
    listed = list(cases)
    return ", ".join(listed[:SHOWN]) + (f", … and {len(listed) - SHOWN} more" if len(listed) > SHOWN else "")
