"""Assign patients to training, validation and test."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from frugalseg.errors import OptionError, SplitError
from frugalseg.records.split import Split
from frugalseg.text import name_some, pluralize


def parse_patient(case: str, pattern: str) -> str:
    """The patient in a case id: the first group of `--patient-pattern`.

    Raises:
        OptionError: the pattern is not a valid regular expression, or finds no patient.
    """
    try:
        match = re.match(pattern, case)
    except re.error as error:
        raise OptionError(
            f"--patient-pattern {pattern!r} is not a valid regular expression ({error})", "correct it"
        ) from error
    if match is None or not match.groups() or not match.group(1):
        raise OptionError(
            f"--patient-pattern {pattern!r} finds no patient in the case id {case!r}",
            "write a pattern with one group, for example (.+)_scan",
        )
    return str(match.group(1))


def draw_split(
    labelled: Mapping[str, bool], same_image: Sequence[set[str]], fractions: tuple[float, float], seed: int
) -> Split:
    """Draw validation and test patients from the labelled ones; all others are for training.

    Args:
        labelled: patient → whether any scan of the patient has a mask. Patients without masks are for training only.
        same_image: groups of patients that share an identical scan; a group is never divided.
        fractions: fractions of the labelled patients for validation and for test. Each part gets at least one patient
            if its fraction is above 0 and at least three patients are labelled.
        seed: seed of the draw.
    """
    order = _shuffle_labelled(labelled, same_image, [seed, 0])
    counts = [_count_share(fraction, len(order)) for fraction in fractions]
    validation = [p for group in order[: counts[0]] for p in group]
    test = [p for group in order[counts[0] : sum(counts)] for p in group]
    train = set(labelled) - set(validation) - set(test)
    return Split(tuple(sorted(train)), tuple(sorted(validation)), tuple(sorted(test)))


def divide_into_folds(
    split: Split, labelled: Mapping[str, bool], same_image: Sequence[set[str]], folds: int
) -> list[Split]:
    """The splits of a cross-validation: the labelled patients of training and validation, each once in validation.

    Test patients stay test patients, and patients without masks are for training in every fold. The division depends on
    the patients only, so that models of all options and seeds have the same folds.

    Args:
        split: the split to divide.
        labelled: patient → whether any scan of the patient has a mask.
        same_image: groups of patients that share an identical scan; a group is never divided.
        folds: how many.

    Raises:
        SplitError: there are fewer labelled patients, or groups of them, than folds.
    """
    divided = {*split.train, *split.validation}
    own = {patient: labelled.get(patient, False) for patient in divided}
    order = _shuffle_labelled(own, [group & divided for group in same_image], [folds])
    if len(order) < folds:
        raise SplitError(
            f"--folds {folds}: only {pluralize(len(order), 'labelled patient')} outside the test set can be divided",
            "give fewer folds, or label scans of more patients",
        )
    parts = [{patient for group in order[fold::folds] for patient in group} for fold in range(folds)]
    return [Split(tuple(sorted(divided - part)), tuple(sorted(part)), split.test) for part in parts]


def _shuffle_labelled(
    labelled: Mapping[str, bool], same_image: Sequence[set[str]], seed: Sequence[int]
) -> list[list[str]]:
    """Groups of patients that share an identical scan, of those with a labelled patient, in random order."""
    lead = {patient: patient for patient in labelled}
    for group in same_image:
        joined = {lead[patient] for patient in group}
        lead = {patient: min(joined) if leader in joined else leader for patient, leader in lead.items()}
    members: dict[str, list[str]] = {}
    for patient in sorted(labelled):
        members.setdefault(lead[patient], []).append(patient)
    drawn = [group for group in members.values() if any(labelled[p] for p in group)]
    return [drawn[i] for i in np.random.default_rng(seed).permutation(len(drawn))]


def _count_share(fraction: float, patients: int) -> int:
    if fraction == 0 or patients < 3:
        return 0
    return max(1, round(fraction * patients))


def read_split(path: Path, patients: Iterable[str], same_image: Sequence[set[str]] = ()) -> Split:
    """Read a split from JSON and check it against the patients of the data set.

    Patients that the file does not list are not used.

    Raises:
        SplitError: the file is unreadable, lists an unknown patient, or puts identical scans of two patients in
            different parts.
    """
    try:
        split = Split.read(path)
    except SplitError as error:
        raise SplitError(f"--split {error.problem}", error.cure) from None
    if unknown := set(split.part_by_patient()) - set(patients):
        raise SplitError(
            f"--split {path} lists {name_some(unknown)}, not among the patients of the images ({name_some(patients)})",
            "correct the names, or set --patient-pattern",
        )
    check_leakage(split, same_image)
    return split


def check_leakage(split: Split, same_image: Sequence[set[str]]) -> None:
    """Raise `SplitError` if patients in different parts share an identical scan."""
    part_of = split.part_by_patient()
    for group in same_image:
        parts = sorted({part_of[patient] for patient in group if patient in part_of})
        if len(parts) > 1:
            raise SplitError(
                f"patients {name_some(group)} have an identical scan, but the split puts it in {' and '.join(parts)}",
                "put them in one part, or remove the copy",
            )
