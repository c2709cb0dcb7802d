"""Which prediction is compared with which reference."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from frugalseg.errors import PairingError
from frugalseg.imaging.find import check_distinct_files, find_masks
from frugalseg.records.predictions import PredictionRecord

SHOWN = 10


@dataclass(frozen=True)
class Pairs:
    """What is compared.

    Attributes:
        masks: case id → (reference, prediction), sorted by id.
        not_predicted: case id of a reference → why `frugalseg predict` could not segment it.
        no_reference: case ids of predictions that nothing can be compared with.
    """

    masks: dict[str, tuple[Path, Path]]
    not_predicted: dict[str, str]
    no_reference: tuple[str, ...]


def find_pairs(references: Path, predictions: Path, record: PredictionRecord | None, only: Sequence[str] = ()) -> Pairs:
    """Pair by case id; no case goes missing without being named.

    Where labels are few, most predictions have no reference: they are listed. A reference may lack its prediction
    only where the record says that the scan could not be segmented.

    Args:
        references, predictions: the folders of masks (see `find_masks`), or two masks, which are then a pair whatever
            they are called; the case id is that of the prediction.
        record: what `frugalseg predict` left beside its masks.
        only: case ids to compare; all where empty.

    Raises:
        PairingError: references without prediction, all of them counted and the first named; no pair at all; a
            case of `only` without reference; or a file that is prediction and reference at once.
        ScanError: a folder does not exist or holds no masks.
    """
    given, made = find_masks(references), find_masks(predictions)
    if references.is_file() and predictions.is_file():  # two files are a pair, whatever they are called
        given = dict(zip(made, given.values(), strict=True))
    if only:
        if unknown := [case for case in only if case not in given]:
            raise PairingError(f"--case {unknown[0]}: {references} holds no reference of it", "correct the case id")
        given, made = ({case: found[case] for case in sorted(only) if case in found} for found in (given, made))
    if not given.keys() & made.keys():
        raise PairingError(
            f"no prediction in {predictions} has a reference in {references}: "
            f"predictions {_some(made)}; references {_some(given)}",
            "give prediction and reference of a case the same name (the suffix may differ)",
        )
    check_distinct_files(made, given, "prediction and reference")
    excused = {} if record is None else {case: record.failed[case] for case in given if case in record.failed}
    not_predicted = {case: why for case, why in excused.items() if case not in made}
    lost = [case for case in given if case not in made and case not in not_predicted]
    if lost:
        raise PairingError(
            f"{len(lost)} references in {references} have no prediction in {predictions}: {_some(lost)}",
            "predict these scans too, or name those to compare with --case; "
            "a mean over only the cases that were predicted would flatter",
        )
    masks = {case: (given[case], made[case]) for case in given if case in made}
    return Pairs(masks, not_predicted, tuple(case for case in made if case not in given))


def _some(cases: Iterable[str]) -> str:
    listed = list(cases)
    return ", ".join(listed[:SHOWN]) + (f", … and {len(listed) - SHOWN} more" if len(listed) > SHOWN else "")
