"""Which patients are trained on, which choose the model, and which are touched once, at the end."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from frugalseg.errors import OptionError, SplitError

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Split:
    """Patients by part; no patient stands in two.

    Raises:
        SplitError: a patient stands in two parts, or none is left for training.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]

    def __post_init__(self) -> None:
        for i, one in enumerate(PARTS):
            for other in PARTS[i + 1 :]:
                if both := set(getattr(self, one)) & set(getattr(self, other)):
                    raise SplitError(
                        f"the split has {_some(both)} both in {one} and in {other}", "give each patient to one part"
                    )
        if not self.train:
            raise SplitError("the split leaves no patient for training", "move patients to train, or lower --fractions")

    def part_of(self) -> dict[str, str]:
        """Patient → train, validation or test."""
        return {patient: part for part in PARTS for patient in getattr(self, part)}

    def to_dict(self) -> dict[str, list[str]]:
        """As JSON keeps it."""
        return {part: list(patients) for part, patients in asdict(self).items()}


def _some(names: Iterable[str], most: int = 5) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:most]) + (f" and {len(ordered) - most} more" if len(ordered) > most else "")


def patient_of(case: str, pattern: str) -> str:
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
    counts = [_share(fraction, len(order)) for fraction in fractions]
    validation = [p for group in order[: counts[0]] for p in group]
    test = [p for group in order[counts[0] : sum(counts)] for p in group]
    train = set(labelled) - set(validation) - set(test)
    return Split(tuple(sorted(train)), tuple(sorted(validation)), tuple(sorted(test)))


def _share(fraction: float, patients: int) -> int:
    if fraction == 0 or patients < 3:
        return 0
    return max(1, round(fraction * patients))


def read_split(path: Path, patients: Iterable[str], same_image: Sequence[set[str]] = ()) -> Split:
    """Read a split from JSON and check it against the patients there are.

    Patients that the file does not name take no part. Raises `SplitError` on an unreadable file, an unknown
    patient, or one scan in two parts under two names.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        split = Split(**{part: tuple(map(str, content.get(part, ()))) for part in PARTS})
    except FileNotFoundError:
        raise SplitError(f"--split {path} is not there", "check the path") from None
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        raise SplitError(
            f"--split {path} cannot be read: {error}",
            'write {"train": ["patient", …], "validation": […], "test": […]}',
        ) from error
    except SplitError as error:
        raise SplitError(f"--split {path}: {error.problem}", error.cure) from None
    if unknown := set(split.part_of()) - set(patients):
        raise SplitError(
            f"--split {path} names {_some(unknown)}, no such patient is in the images (there are {_some(patients)})",
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
                f"patients {_some(group)} have an identical scan, but the split puts it in {' and '.join(parts)}",
                "put them in one part, or remove the copy",
            )
