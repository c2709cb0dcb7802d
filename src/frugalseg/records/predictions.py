"""predictions.json: how a folder of masks was made, from which scans, and the role of each in the training."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from frugalseg.errors import FrugalsegError, PairingError
from frugalseg.imaging.intensity import IntensityScale
from frugalseg.records.confidence import OrganConfidence
from frugalseg.records.record import Content, Converters, Record, rename_keys
from frugalseg.records.statistics import OrganStatistics

Value = TypeVar("Value")

PREDICTIONS_FILE = "predictions.json"

TargetValues = Mapping[str, tuple[int, ...]]
"""Organ → label values."""


@dataclass(frozen=True)
class PromptableUse:
    """Promptable model that made masks.

    Attributes:
        model: as given in the options.
        name: name of the network.
        signature: signature of its weights.
        recipe: how images are converted for it, see `promptable.protocol.Recipe`.
        shown: how intensities were scaled for it.
    """

    model: str
    name: str
    signature: str
    recipe: Mapping[str, object]
    shown: IntensityScale


@dataclass(frozen=True)
class InputMask:
    """Input mask from which another was made.

    Attributes:
        mask: its file; with the oracle of SAM-Mix, the reference mask.
        sha256: of its bytes.
        labelled: the slices that a person outlined or accepted; None where every slice with foreground counts.
        reference_sha256: of the reference mask that the boxes were taken from; None without --oracle.
    """

    mask: str
    sha256: str
    labelled: tuple[int, ...] | None = None
    reference_sha256: str | None = None


@dataclass(frozen=True)
class OrganRefinement:
    """Refinement of one organ of a scan.

    Attributes:
        boxes: parts of the mask that were prompted with a box.
        refined, kept: of these, parts with the model's mask, and parts left unchanged because the overlap was too low.
        too_small: parts left unchanged because they were too small for a box.
        mean_score: mean of the IoU that the model expects; None where nothing was prompted.
        mean_iou_with_given: mean IoU of its mask with the input; None where nothing was prompted.
    """

    boxes: int
    refined: int
    kept: int
    too_small: int
    mean_score: float | None
    mean_iou_with_given: float | None


@dataclass(frozen=True)
class Refinement:
    """Refinement of one scan.

    Attributes:
        slices: number of slices embedded.
        slices_from_cache: of these, slices whose embeddings were in the cache.
        organs: organ → its refinement.
    """

    slices: int
    slices_from_cache: int
    organs: dict[str, OrganRefinement]


@dataclass(frozen=True)
class Propagation:
    """Propagation through one scan.

    Attributes:
        slices: first and last slice processed.
        annotated_slices: organ → annotated slices that show it.
        propagated_slices: organ → number of slices it was propagated to.
        needs_review: organ → slices whose confidence is low.
    """

    slices: tuple[int, int]
    annotated_slices: dict[str, tuple[int, ...]]
    propagated_slices: dict[str, int]
    needs_review: dict[str, tuple[int, ...]]


def _convert_propagation(content: Content) -> Content:
    """Format 1: `propagated_slices` was called `carried_slices`."""
    scans = content.get("propagation", {})
    renamed = {case: rename_keys(scan, {"carried_slices": "propagated_slices"}) for case, scan in scans.items()}
    return {**content, "propagation": renamed}


@dataclass(frozen=True, kw_only=True)
class CaseRecord:
    """The entries of one scan in a `PredictionRecord`; None where the command does not write one."""

    mask: str | None = None
    scan: str | None = None
    role: str | None = None
    annotated: tuple[int, ...] | None = None
    given: InputMask | None = None
    present: dict[str, tuple[float, ...]] | None = None
    confidence: dict[str, OrganConfidence] | None = None
    refinement: Refinement | None = None
    propagation: Propagation | None = None
    statistics: dict[str, OrganStatistics] | None = None


@dataclass(frozen=True, kw_only=True)
class PredictionRecord(Record):
    """How masks were made.

    Attributes:
        version: version of frugalseg.
        method: how masks were made from other masks; None for a trained model's own.
        model: run folder of the trained model, or None.
        weights_sha256: SHA-256 of its weights.
        promptable: the promptable model, or None.
        settings: options that change the result, as JSON values; compared as a whole.
        targets: organ → label values in the masks.
        trained: organ → label values of the training, which reference masks have; SAM-Mix only.
        images: case id → scan.
        masks: case id → file name of the mask, in the same folder.
        scans: case id → SHA-256 of the scan.
        roles: case id → role of the scan (see `evaluation.roles`); None where it is not known what the model was
            trained on.
        annotated: case id → manually annotated slices, which were copied; numbered from 0 at the inferior end.
        given: case id → input mask.
        present: case id → organ → probability of each slice; SAM-Mix only.
        confidence: case id → organ → confidence in its mask; without organs that the mask does not show.
        refinement, propagation: case id → its refinement, its propagation.
        statistics: case id → organ → its volume, intensities and extent.
        failed: case id → why it has no mask.
    """

    FORMAT: ClassVar[int] = 2
    ERROR: ClassVar[type[FrugalsegError]] = PairingError
    CURE: ClassVar[str] = (
        "make the masks again in another --out, or delete the file: it is then unknown what the model was trained on"
    )
    OLDER: ClassVar[Converters] = {0: dict, 1: _convert_propagation}  # format 0: format 1 without the key "format"

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
    confidence: Mapping[str, dict[str, OrganConfidence]] = field(default_factory=dict)
    refinement: Mapping[str, Refinement] = field(default_factory=dict)
    propagation: Mapping[str, Propagation] = field(default_factory=dict)
    statistics: Mapping[str, dict[str, OrganStatistics]] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read_beside(cls, masks: Path) -> PredictionRecord | None:
        """The record in the folder of masks, or None where there is none.

        Args:
            masks: their folder, or one of them.

        Raises:
            PairingError: it is damaged.
        """
        path = (masks if masks.is_dir() else masks.parent) / PREDICTIONS_FILE
        return cls.read(path) if path.is_file() else None

    def find_scan(self, case: str, folder: Path) -> Path | None:
        """The scan of a case; None where it is not recorded. `folder` is that of the record."""
        return resolve_recorded(self.images[case], folder) if case in self.images else None

    def select_case(self, case: str) -> CaseRecord:
        """The entries of one scan."""
        return CaseRecord(**{name: (getattr(self, key) or {}).get(case) for name, key in _BY_CASE.items()})

    def with_case(self, case: str, entries: CaseRecord) -> PredictionRecord:
        """The record with the entries of one scan; those that are None are left unchanged."""
        known = {key: value for name, key in _BY_CASE.items() if (value := getattr(entries, name)) is not None}
        more: Any = {key: {**(getattr(self, key) or {}), case: value} for key, value in known.items()}
        return replace(self, **more)

    def select_cases(self, cases: Collection[str]) -> PredictionRecord:
        """The record with the entries of these scans only, in their order."""
        selected: Any = {
            key: _select(own, cases) for key in _BY_CASE.values() if (own := getattr(self, key)) is not None
        }
        return replace(self, **selected)


def resolve_recorded(text: str, folder: Path) -> Path:
    """A path of a record; a relative one is looked up in the working directory, then in the record's folder."""
    path = Path(text)
    return path if path.exists() or path.is_absolute() else folder / path


_BY_CASE = {
    "mask": "masks",
    "scan": "scans",
    "role": "roles",
    "annotated": "annotated",
    "given": "given",
    "present": "present",
    "confidence": "confidence",
    "refinement": "refinement",
    "propagation": "propagation",
    "statistics": "statistics",
}
"""Field of `CaseRecord` → that of `PredictionRecord`."""


def _select(entries: Mapping[str, Value], cases: Collection[str]) -> dict[str, Value]:
    return {case: entries[case] for case in cases if case in entries}
