"""split.json: the patients for training, validation and test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from frugalseg.errors import FrugalsegError, SplitError
from frugalseg.records.record import Content, Converters, Record
from frugalseg.text import name_some

PARTS = ("train", "validation", "test")


def _convert_user_split(content: Content) -> Content:
    """Splits written by users have no format, may omit a part, and may have numbers as patients."""
    return {part: [str(patient) for patient in content.get(part, ())] for part in PARTS}


@dataclass(frozen=True)
class Split(Record):
    """Patients of each part; no patient is in two.

    Raises:
        SplitError: a patient is in two parts, or none is left for training.
    """

    ERROR: ClassVar[type[FrugalsegError]] = SplitError
    CURE: ClassVar[str] = 'write {"train": ["patient", …], "validation": […], "test": […]}'
    OLDER: ClassVar[Converters] = {0: _convert_user_split}

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]

    def __post_init__(self) -> None:
        for i, one in enumerate(PARTS):
            for other in PARTS[i + 1 :]:
                if both := set(getattr(self, one)) & set(getattr(self, other)):
                    raise SplitError(
                        f"the split has {name_some(both)} both in {one} and in {other}", "give each patient to one part"
                    )
        if not self.train:
            raise SplitError("the split leaves no patient for training", "move patients to train, or lower --fractions")

    def part_by_patient(self) -> dict[str, str]:
        """Patient → train, validation or test."""
        return {patient: part for part in PARTS for patient in getattr(self, part)}
