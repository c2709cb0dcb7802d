"""Pairing predictions with references by case id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from frugalseg.dataset.annotated import require_whole_masks
from frugalseg.errors import PairingError
from frugalseg.imaging.find import check_distinct_files, find_masks
from frugalseg.records.predictions import PredictionRecord
from frugalseg.text import name_some

MOST_NAMED = 10
"""Cases that a message names."""


@dataclass(frozen=True)
class Pairs:
    """What is compared.

    Attributes:
        masks: case id → (reference, prediction), sorted by id.
        not_predicted: case id of a reference → why `frugalseg predict` could not segment it.
        no_reference: case ids of predictions without a reference.
    """

    masks: dict[str, tuple[Path, Path]]
    not_predicted: dict[str, str]
    no_reference: tuple[str, ...]


def find_pairs(references: Path, predictions: Path, record: PredictionRecord | None, only: Sequence[str] = ()) -> Pairs:
    """Pair references and predictions by case id; a case without a partner is listed or an error.

    Predictions without a reference are listed: with few labels, most have none. A reference may lack its prediction
    only if the record says that the scan could not be segmented.

    Args:
        references, predictions: the folders of masks (see `find_masks`), or two masks, which are then a pair whatever
            their names; the case id is that of the prediction.
        record: predictions.json beside the predictions; None if there is none.
        only: case ids to compare; all where empty.

    Raises:
        PairingError: references without prediction (their number and the first of them); no pair at all; a case of
            `only` without reference; one file given as both prediction and reference; or a reference of which not
            every slice is a label.
        ScanError: a folder does not exist or holds no masks.
    """
    reference, prediction = find_masks(references), find_masks(predictions)
    if references.is_file() and predictions.is_file():  # two files are a pair, whatever their names
        reference = dict(zip(prediction, reference.values(), strict=True))
    if only:
        if unknown := [case for case in only if case not in reference]:
            raise PairingError(f"--case {unknown[0]}: {references} holds no reference of it", "correct the case id")
        reference, prediction = (
            {case: masks[case] for case in sorted(only) if case in masks} for masks in (reference, prediction)
        )
    if not reference.keys() & prediction.keys():
        raise PairingError(
            f"no prediction in {predictions} has a reference in {references}: "
            f"predictions {name_some(prediction, MOST_NAMED)}; references {name_some(reference, MOST_NAMED)}",
            "give prediction and reference of a case the same name (the suffix may differ)",
        )
    check_distinct_files(prediction, reference, "prediction and reference")
    failed = {} if record is None else record.failed
    unpaired = [case for case in reference if case not in prediction]
    if missing := [case for case in unpaired if case not in failed]:
        raise PairingError(
            f"{len(missing)} references in {references} have no prediction in {predictions}: "
            f"{name_some(missing, MOST_NAMED)}",
            "predict these scans too, or name the cases to compare with --case; "
            "a mean over the predicted cases alone would be too good",
        )
    masks = {case: (reference[case], prediction[case]) for case in reference if case in prediction}
    require_whole_masks(references, masks)
    not_predicted = {case: failed[case] for case in unpaired}
    return Pairs(masks, not_predicted, tuple(case for case in prediction if case not in reference))
