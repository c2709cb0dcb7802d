"""Which patients are trained on, which choose the model, and which are touched once, at the end."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from frugalseg.errors import OptionError, SplitError
from frugalseg.records.split import Split
from frugalseg.text import name_some


def parse_patient(case: str, pattern: str) -> str:
    """The patient whom a case id names.

    Raises:
        OptionError: the pattern is no regular expression, or finds no patient.
    """
    try:
        match = re.match(pattern, case)
    except re.error as error:
        raise OptionError(f"--patient-pattern {pattern!r} is no regular expression ({error})", "correct it") from error
    if match is None or not match.groups() or not match.group(1):
        raise OptionError(
            f"--patient-pattern {pattern!r} finds no patient in the case id {case!r}",
            "write a pattern with one group, for example (.+)_scan",
        )
    return str(match.group(1))


def draw_split(
    labelled: Mapping[str, bool], same_image: Sequence[set[str]], fractions: tuple[float, float], seed: int
) -> Split:
    """Draw validation and test from the labelled patients; everyone else is trained on.

    Args:
        labelled: patient → whether any of the patient's scans has a mask. Patients without are of use in
            training only.
        same_image: groups of patients that share an identical scan; a group is never torn apart.
        fractions: shares of the labelled patients for validation and for test. Each gets at least one patient
            where its share is above 0 and three or more are labelled.
        seed: seed of the draw.
    """
    lead = {patient: patient for patient in labelled}
    for group in same_image:
        joined = {lead[patient] for patient in group}
        lead = {patient: min(joined) if leader in joined else leader for patient, leader in lead.items()}
    members: dict[str, list[str]] = {}
    for patient in sorted(labelled):
        members.setdefault(lead[patient], []).append(patient)

    drawn = [group for group in members.values() if any(labelled[p] for p in group)]
    order = [drawn[i] for i in np.random.default_rng([seed, 0]).permutation(len(drawn))]
    counts = [_count_share(fraction, len(order)) for fraction in fractions]
    validation = [p for group in order[: counts[0]] for p in group]
    test = [p for group in order[counts[0] : sum(counts)] for p in group]
    train = set(labelled) - set(validation) - set(test)
    return Split(tuple(sorted(train)), tuple(sorted(validation)), tuple(sorted(test)))


def _count_share(fraction: float, patients: int) -> int:
    if fraction == 0 or patients < 3:
        return 0
    return max(1, round(fraction * patients))


def read_split(path: Path, patients: Iterable[str], same_image: Sequence[set[str]] = ()) -> Split:
    """Read a split from JSON and check it against the patients there are.

    Patients that the file does not name take no part. Raises `SplitError` on an unreadable file, an unknown
    patient, or one scan in two parts under two names.
    """
    try:
        split = Split.read(path)
    except SplitError as error:
        raise SplitError(f"--split {error.problem}", error.cure) from None
    if unknown := set(split.part_of()) - set(patients):
        raise SplitError(
            f"--split {path} names {name_some(unknown)}, no such patient is in the images (there are "
            f"{name_some(patients)})",
            "correct the names, or set --patient-pattern",
        )
    check_leakage(split, same_image)
    return split


def check_leakage(split: Split, same_image: Sequence[set[str]]) -> None:
    """Raise `SplitError` where one and the same scan stands in two parts under two patients' names."""
    part_of = split.part_of()
    for group in same_image:
        parts = sorted({part_of[patient] for patient in group if patient in part_of})
        if len(parts) > 1:
            raise SplitError(
                f"patients {name_some(group)} have an identical scan, but the split puts it in {' and '.join(parts)}",
                "put them in one part, or remove the copy",
            )
