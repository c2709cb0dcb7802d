"""Validation Dice organ by organ, and warnings of organs whose Dice is 0: the model has not learned them."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence

from frugalseg.engine.run import RunFolder
from frugalseg.records.model import MaskModelRecord
from frugalseg.text import join_words

DICE_PREFIX = "dice_"
"""Of the validation figure of an organ, as in metrics.jsonl."""


def select_organ_dice(figures: Mapping[str, float], organs: Iterable[str]) -> dict[str, float]:
    """Organ → its Dice in the figures of a validation; without organs that no validation scan shows."""
    return {organ: figures[DICE_PREFIX + organ] for organ in organs if DICE_PREFIX + organ in figures}


def read_figures(run: RunFolder, step: int) -> dict[str, float]:
    """The record of metrics.jsonl after this step; empty where it was deleted."""
    return (
        next((record for record in run.read_records() if record["step"] == step), {}) if run.metrics.is_file() else {}
    )


class OrganWatch:
    """Warns during a training of organs whose Dice is still 0 after half of the steps, of each organ once.

    Args:
        organs: their names.
        steps: length of the training.
    """

    def __init__(self, organs: Iterable[str], steps: int) -> None:
        self.organs, self.steps = tuple(organs), steps
        self._named: set[str] = set()

    def check(self, figures: Mapping[str, float], step: int) -> None:
        """Look at the figures of the validation after `step`; at the end `warn_of_unlearned` warns instead."""
        dice = select_organ_dice(figures, self.organs)
        missed = [organ for organ, value in dice.items() if value == 0 and organ not in self._named]
        if missed and self.steps / 2 < step < self.steps:
            self._named.update(missed)
            warnings.warn(
                f"validation Dice is still 0 for {join_words(missed)} after {step} of {self.steps} steps. If it stays "
                f"0, {_describe_cure(missed)}",
                stacklevel=2,
            )


def warn_of_unlearned(dice: Mapping[str, float]) -> None:
    """Warn at the end of a training of organs whose validation Dice is 0, with what to do.

    Args:
        dice: organ → its validation Dice.
    """
    if missed := [organ for organ, value in dice.items() if value == 0]:
        warnings.warn(
            f"validation Dice is 0 for {join_words(missed)}: the model has not learned {_pronoun(missed)}. To change "
            f"that, {_describe_cure(missed)}",
            stacklevel=2,
        )


def warn_before_prediction(record: MaskModelRecord, written: Collection[str]) -> None:
    """Warn before a prediction of organs that its model has not learned.

    Args:
        record: of the model.
        written: the organs that are written.
    """
    if missed := [organ for organ in record.unlearned_organs if organ in written]:
        warnings.warn(
            f"this model has not learned {join_words(missed)} (validation Dice 0): expect masks without "
            f"{_pronoun(missed)}, even where the scan shows {_pronoun(missed)}",
            stacklevel=2,
        )


def _describe_cure(organs: Sequence[str]) -> str:
    return (
        "train for more --steps, prepare the scans with a larger --size, or label more slices that show "
        f"{_pronoun(organs)}"
    )


def _pronoun(organs: Sequence[str]) -> str:
    return "it" if len(organs) == 1 else "them"
