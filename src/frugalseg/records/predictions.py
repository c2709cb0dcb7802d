"""predictions.json: how a folder of masks was made, from which scans, and what the model knew of each."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from frugalseg.errors import FrugalsegError, PairingError
from frugalseg.imaging.intensity import IntensityScale
from frugalseg.records.record import Content, Record

Value = TypeVar("Value")

PREDICTIONS_FILE = "predictions.json"

TargetValues = Mapping[str, tuple[int, ...]]
"""Organ → label values."""


@dataclass(frozen=True)
class PromptableUse:
    """The promptable model behind masks.

    Attributes:
        model: as it was asked for.
        name: of the network.
        signature: of its weights.
        recipe: how it wants its pictures, see `promptable.protocol.Recipe`.
        shown: how intensities were scaled for it.
    """

    model: str
    name: str
    signature: str
    recipe: Mapping[str, object]
    shown: IntensityScale


@dataclass(frozen=True)
class InputMask:
    """The mask that a new one was made from: its file, and SHA-256."""

    mask: str
    sha256: str


@dataclass(frozen=True)
class OrganRefinement:
    """What became of the pieces of one organ of a scan.

    Attributes:
        boxes: pieces that were prompted.
        refined, kept: of these, how many got the model's mask, and how many stayed for want of overlap.
        too_small: pieces without a box.
        mean_score: the IoU that the model expects; None where nothing was prompted.
        mean_iou_with_given: that of its mask with the piece; None where nothing was prompted.
    """

    boxes: int
    refined: int
    kept: int
    too_small: int
    mean_score: float | None
    mean_iou_with_given: float | None


@dataclass(frozen=True)
class Refinement:
    """What refining one scan did.

    Attributes:
        slices: that the model embedded.
        slices_from_cache: of these, whose embeddings were kept from before.
        organs: organ → what became of its pieces.
    """

    slices: int
    slices_from_cache: int
    organs: dict[str, OrganRefinement]


@dataclass(frozen=True)
class Propagation:
    """What propagating through one scan did.

    Attributes:
        slices: the first and the last that was worked on.
        annotated_slices: organ → annotated slices that show it.
        carried_slices: organ → number of slices it was propagated to.
        needs_review: organ → slices that a person should look at.
    """

    slices: tuple[int, int]
    annotated_slices: dict[str, tuple[int, ...]]
    carried_slices: dict[str, int]
    needs_review: dict[str, tuple[int, ...]]


@dataclass(frozen=True, kw_only=True)
class CaseRecord:
    """What is known of one scan and its mask; None where a command does not tell. See `PredictionRecord`."""

    mask: str | None = None
    scan: str | None = None
    role: str | None = None
    annotated: tuple[int, ...] | None = None
    given: InputMask | None = None
    present: dict[str, tuple[float, ...]] | None = None
    refinement: Refinement | None = None
    propagation: Propagation | None = None


@dataclass(frozen=True, kw_only=True)
class PredictionRecord(Record):
    """How masks were made.

    Attributes:
        version: of the program.
        method: of masks that were made from others; None for a trained model's own.
        model: run folder of the trained model, or None.
        weights_sha256: of its weights.
        promptable: the promptable model, or None.
        settings: options that change the result, as JSON values; told and compared as a whole.
        targets: organ → label values that the masks are written with.
        trained: organ → label values of the training, which references hold; SAM-Mix alone.
        images: case id → scan.
        masks: case id → file of the mask, beside this one.
        scans: case id → SHA-256 of the scan.
        roles: case id → what the model knew of the scan (see `evaluation.roles`); None where nothing is known of what
            the model saw.
        annotated: case id → slices that a person had annotated and that were copied, from 0 at the inferior end.
        given: case id → the mask that the new one was made from.
        present: case id → organ → probability of each slice; SAM-Mix alone.
        refinement, propagation: case id → what was done.
        failed: case id → why it has no mask.
    """

    ERROR: ClassVar[type[FrugalsegError]] = PairingError
    CURE: ClassVar[str] = (
        "make the masks again in another --out, or delete it: nothing is then known of what the model was trained on"
    )
    OLDER: ClassVar[Mapping[int, Callable[[Content], Content]]] = {0: dict}  # as format 1, but that it says so

    version: str = ""
    method: Literal["refine", "oracle", "propagate"] | None = None
    model: str | None = None
    weights_sha256: str | None = None
    promptable: PromptableUse | None = None
    settings: Mapping[str, object] = field(default_factory=dict)
    targets: TargetValues = field(default_factory=dict)
    trained: TargetValues = field(default_factory=dict)
    images: Mapping[str, str] = field(default_factory=dict)
    masks: Mapping[str, str] = field(default_factory=dict)
    scans: Mapping[str, str] = field(default_factory=dict)
    roles: Mapping[str, str] | None
    annotated: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    given: Mapping[str, InputMask] = field(default_factory=dict)
    present: Mapping[str, Mapping[str, tuple[float, ...]]] = field(default_factory=dict)
    refinement: Mapping[str, Refinement] = field(default_factory=dict)
    propagation: Mapping[str, Propagation] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read_beside(cls, masks: Path) -> PredictionRecord | None:
        """The record beside masks, or None where there is none.

        Args:
            masks: their folder, or one of them.

        Raises:
            PairingError: it is damaged.
        """
        path = (masks if masks.is_dir() else masks.parent) / PREDICTIONS_FILE
        return cls.read(path) if path.is_file() else None

    def select_case(self, case: str) -> CaseRecord:
        """What is known of one scan."""
        return CaseRecord(**{name: (getattr(self, key) or {}).get(case) for name, key in _BY_CASE.items()})

    def with_case(self, case: str, told: CaseRecord) -> PredictionRecord:
        """The record with what is told of one scan; what is None stays as it was."""
        known = {key: value for name, key in _BY_CASE.items() if (value := getattr(told, name)) is not None}
        more: Any = {key: {**(getattr(self, key) or {}), case: value} for key, value in known.items()}
        return replace(self, **more)

    def select_cases(self, cases: Collection[str]) -> PredictionRecord:
        """The record without what is told of other scans."""
        told: Any = {key: _select(own, cases) for key in _BY_CASE.values() if (own := getattr(self, key)) is not None}
        return replace(self, **told)


_BY_CASE = {
    "mask": "masks",
    "scan": "scans",
    "role": "roles",
    "annotated": "annotated",
    "given": "given",
    "present": "present",
    "refinement": "refinement",
    "propagation": "propagation",
}
"""Field of `CaseRecord` → that of `PredictionRecord`."""


def _select(told: Mapping[str, Value], cases: Collection[str]) -> dict[str, Value]:
    return {case: value for case, value in told.items() if case in cases}
