"""annotations.json: which slices of a folder of masks a person has outlined or reviewed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from frugalseg.errors import FrugalsegError, PairingError
from frugalseg.records.record import Record

ANNOTATIONS_FILE = "annotations.json"
WORK_FOLDER = "work"
"""Sub-folder of a folder with annotations.json that holds no masks of it."""


@dataclass(frozen=True, kw_only=True)
class AnnotatedScan:
    """The slices of one mask by their source, numbered from 0 at the inferior end; all others hold nothing.

    Attributes:
        mask: file name of the mask, in the same folder.
        slices: number of slices.
        outlined: drawn by a person, empty ones included.
        reviewed: made by a program, and accepted by a person.
        propagated, predicted: made by a program, and not accepted yet.
    """

    mask: str
    slices: int
    outlined: tuple[int, ...] = ()
    reviewed: tuple[int, ...] = ()
    propagated: tuple[int, ...] = ()
    predicted: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        known = [*self.outlined, *self.reviewed, *self.propagated, *self.predicted]
        if len(set(known)) < len(known):
            raise ValueError("a slice is listed twice")
        if beyond := [z for z in known if not 0 <= z < self.slices]:
            raise ValueError(f"slice {beyond[0]} is not in 0…{self.slices - 1}")

    @property
    def labelled(self) -> tuple[int, ...]:
        """The slices whose mask is a label: outlined or reviewed by a person."""
        return tuple(sorted({*self.outlined, *self.reviewed}))


@dataclass(frozen=True, kw_only=True)
class AnnotationsRecord(Record):
    """Which slices of the masks in a folder are labels; every other slice is unlabelled, whatever its mask holds.

    Attributes:
        version: version of frugalseg.
        labels: name → label value in the masks.
        scans: case id → its slices.
    """

    ERROR: ClassVar[type[FrugalsegError]] = PairingError
    CURE: ClassVar[str] = "start `frugalseg annotate` with this folder as --out, which rewrites it"

    version: str = ""
    labels: Mapping[str, int] = field(default_factory=dict)
    scans: Mapping[str, AnnotatedScan] = field(default_factory=dict)

    @classmethod
    def read_beside(cls, masks: Path | None) -> AnnotationsRecord | None:
        """The record in a folder of masks, or None where there is none.

        Raises:
            PairingError: it is damaged.
        """
        path = None if masks is None else masks / ANNOTATIONS_FILE
        return cls.read(path) if path is not None and path.is_file() else None

    def labelled_slices(self, case: str) -> tuple[int, ...]:
        """The slices of a case whose mask is a label; none for a case that is not listed."""
        return self.scans[case].labelled if case in self.scans else ()
