"""model.json: a trained model, the data it was trained on, and the preprocessing it needs.

What the records of all kinds of model share. The kinds: `records.networks` (an encoder of `pretrain`, a segmenter of
`finetune`), `records.sam_mix` (`sam-mix train`); `records.any_model` reads a run of any kind.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal, TypeVar

from frugalseg.engine.files import MODEL_FILE
from frugalseg.errors import RunError
from frugalseg.imaging.intensity import IntensityScale
from frugalseg.options import Keep
from frugalseg.records.record import Content, Converters, Record, rename_keys

M = TypeVar("M", bound="ModelRecord")


@dataclass(frozen=True)
class Preprocessing:
    """Preprocessing of a model's scans, and the kind of scan it was trained on.

    Attributes:
        size: side of the square slices, in pixels.
        intensity: how intensities become [0, 1].
        looks_like: the kinds, ct or mr, that the values of the training scans look like; empty where an older store
            did not record it.
    """

    size: int
    intensity: IntensityScale
    looks_like: tuple[Literal["ct", "mr"], ...] = ()

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size is {self.size}")


@dataclass(frozen=True)
class ScanRole:
    """How a model used one scan.

    Attributes:
        case: its id; "" for a scan that only the encoder was trained on.
        fingerprint: hash of its voxel values.
        role: see `segmentation.record.scan_roles`.
    """

    case: str
    fingerprint: str
    role: str


@dataclass(frozen=True)
class PromptableModel:
    """A promptable model: as given in the options, its name, and the signature of its weights."""

    model: str
    name: str
    signature: str


@dataclass(frozen=True)
class UsedModel:
    """A trained model that a training used.

    Attributes:
        model: its run folder.
        weights_sha256: of its weights.
        masks: number of slices whose masks it was trained on, and the models that it used itself; they may be those of
            the training that used it.
    """

    model: str
    weights_sha256: str
    masks: int


def _convert_sam_mix(content: Content) -> Content:
    """Format 1: two keys of a SAM-Mix had other names."""
    return rename_keys(content, {"way_from_base": "interpolation", "share_of_map": "map_factor"})


@dataclass(frozen=True, kw_only=True)
class ModelRecord(Record):
    """Fields of every model.json.

    Attributes:
        KIND: value of `kind`.
        MADE_BY: the command that makes such a run.
        ALTERNATIVE: what else to do with a model of another kind, for the message.
        kind: kind of model.
        version: version of frugalseg that trained it.
        parameters: number of the network's parameters.
        preprocessing: preprocessing of scans.
    """

    FORMAT: ClassVar[int] = 2
    CURE: ClassVar[str] = "copy the run folder again from an intact copy, or run the training again in another --out"
    OLDER: ClassVar[Converters] = {0: dict, 1: _convert_sam_mix}  # format 0: format 1 without the key "format"
    KIND: ClassVar[str]
    MADE_BY: ClassVar[str]
    ALTERNATIVE: ClassVar[str] = ""

    kind: str
    version: str = ""
    parameters: int
    preprocessing: Preprocessing

    @classmethod
    def read_run(cls: type[M], folder: Path) -> M:
        """The record of a finished run of this kind.

        Raises:
            RunError: there is no such folder, the run is not finished or of another kind, or the file is damaged.
        """
        found = read_model_kind(folder, cls.MADE_BY)
        if found != cls.KIND:
            raise RunError(
                f"{folder} holds a model of kind {found!r}, expected {cls.KIND!r}",
                f"give a run folder of `{cls.MADE_BY}`{cls.ALTERNATIVE}",
            )
        return cls.read(folder / MODEL_FILE)


@dataclass(frozen=True, kw_only=True)
class AnnotationUse:
    """Masks that a training used.

    Attributes:
        budget, draw: label budget and label draw, as in the options.
        masks: slices whose masks were trained on.
        mask_scans: their scans.
        validation_scans: scans whose masks chose the step and the post-processing.
        validation_masks: their slices; None in older files.
    """

    budget: str
    draw: int
    masks: int
    mask_scans: int
    validation_scans: int
    validation_masks: int | None = None


@dataclass(frozen=True, kw_only=True)
class MaskModelRecord(ModelRecord):
    """Fields of every model that makes masks.

    Attributes:
        targets: organ → label values of the training, in the order of the classes.
        keep: organ → post-processing of its mask (see `masks.components`).
        step: training step of the weights.
        validation_dice: Dice at that step; None where no validation patient has labels.
        validation_dice_of_organs: organ → its Dice at that step, before post-processing; without organs that no
            validation scan shows, and empty in older files.
        scans: role of each scan of the store.
    """

    targets: dict[str, tuple[int, ...]]
    keep: dict[str, Keep]
    step: int
    validation_dice: float | None
    validation_dice_of_organs: dict[str, float] = field(default_factory=dict)
    scans: tuple[ScanRole, ...]

    def __post_init__(self) -> None:
        if not self.targets:
            raise ValueError("targets names no organ")
        if missing := [organ for organ in self.targets if organ not in self.keep]:
            raise ValueError(f"keep names no post-processing for {missing[0]}")

    @property
    def unlearned_organs(self) -> tuple[str, ...]:
        """Organs that some validation scan shows, and the model finds in none: their validation Dice is 0."""
        return tuple(organ for organ, dice in self.validation_dice_of_organs.items() if dice == 0)


@dataclass(frozen=True, kw_only=True)
class _Kind(Record):
    """The key that decides which record a model.json is."""

    FORMAT: ClassVar[int] = ModelRecord.FORMAT
    CURE: ClassVar[str] = ModelRecord.CURE
    OLDER: ClassVar[Converters] = ModelRecord.OLDER

    kind: str


def read_model_kind(folder: Path, made_by: str = "frugalseg finetune") -> str:
    """The kind of model that a finished run holds.

    Args:
        folder: the run.
        made_by: the command whose run is expected, for the message.

    Raises:
        RunError: there is no such folder, the run is not finished, or the file is damaged.
    """
    if not (folder / MODEL_FILE).is_file():
        if (folder / "config.yaml").is_file():
            raise RunError(
                f"{folder} is a run that has not finished (no {MODEL_FILE})",
                "finish it with --resume; if it is a copy, copy the folder again",
            )
        raise RunError(f"{folder} holds no trained model (no {MODEL_FILE})", f"give a run folder of `{made_by}`")
    return _Kind.read(folder / MODEL_FILE).kind
