"""A study's plan: which methods, on which data, with how many labels, how often.

`read_plan` makes one of a YAML file (docs/reference/plans.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from frugalseg.dataset.budget import Budget
from frugalseg.dataset.targets import parse_targets
from frugalseg.models.registry import choose_norm
from frugalseg.options import (
    FinetuneOptions,
    Norm,
    PrepareOptions,
    PretrainOptions,
    PropagateOptions,
    RefineOptions,
    SamMixPredictOptions,
    SamMixTrainOptions,
)
from frugalseg.options.common import PERCENTILES, WINDOW, told_modality
from frugalseg.segmentation.presets import PRESETS
from frugalseg.studies.plan.yaml_source import Entry

Values = Mapping[str, Any]

_RUN = ("data", "out", "split", "seed", "resume", "checkpoint_minutes", "backbone", "threads")
_MASKS = ("images", "out", "case", "target", "cache", "overwrite", "resume", "oracle", "threads")

NOT_IN_PLANS: dict[type, tuple[str, ...]] = {
    PrepareOptions: ("out", "workers", "threads"),
    PretrainOptions: _RUN,
    FinetuneOptions: (*_RUN, "encoder", "budget", "label_draw", "transductive"),
    SamMixTrainOptions: (*_RUN, "budget", "label_draw"),
    RefineOptions: (*_MASKS, "masks"),
    PropagateOptions: (*_MASKS, "annotations", "slices"),
    SamMixPredictOptions: (*_MASKS, "model", "base"),
}
"""Options that the study itself sets, from the grid, the data sets and the output folder."""

FURTHER: dict[str, type] = {"refine": RefineOptions, "propagate": PropagateOptions, "predict": SamMixPredictOptions}
"""Key of a plan → options of the command that makes new masks of test scans."""

SHOWN = ("modality", "window", "percentiles")
"""Options of these that a test set's own take the place of, where the plan gives none."""

NOWHERE = Path("-")
"""Stands for a path that is not known yet, where options are only checked."""


def has_labels(budget: str) -> bool:
    """Whether a plan's budget holds any masks."""
    return Budget.parse(budget, none=True).amount > 0


def of_plan(kind: type[Any], values: Values) -> Any:
    """A command's options as a plan gives them, every path that is not known yet being `NOWHERE`.

    Raises:
        FrugalsegError: the command refuses them.
    """
    needed = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
    return kind(**{**dict.fromkeys(needed, NOWHERE), **values})


@dataclass(frozen=True)
class DataPlan:
    """A named data set.

    Attributes:
        options: what `prepare` is given, but for `out`. Of phantoms, `images` and `labels` are where they will lie.
        entry: where the plan says so.
        phantoms: number of phantoms to make, or None for real scans.
        grid: voxels of a phantom along left, posterior, superior.
    """

    name: str
    options: PrepareOptions
    entry: Entry = field(compare=False)
    phantoms: int | None = None
    grid: tuple[int, int, int] = (96, 96, 40)

    @property
    def organs(self) -> list[str]:
        """What is segmented."""
        return list(parse_targets(self.options.target))

    @property
    def intensities(self) -> tuple[str, ...]:
        """How intensities become [0, 1]; both ways in which they may, where the scans will tell."""
        ways = {"ct": self.options.window or WINDOW, "mr": self.options.percentiles or PERCENTILES}
        told = told_modality(self.options)
        return tuple(f"{kind} {low:g}…{high:g}" for kind, (low, high) in ways.items() if told in ("auto", kind))


@dataclass(frozen=True)
class TestPlan:
    """Scans that every model is tested on.

    Attributes:
        data: name of the data set.
        patients: test (those that its split holds out) or all.
        in_domain: whether they come from where the training scans come from.
        millimetres: False where the spacing in the files is a placeholder.
        entry: where the plan says so.
    """

    name: str
    data: str
    patients: str
    in_domain: bool
    millimetres: bool
    entry: Entry


@dataclass(frozen=True)
class Training:
    """How a model is trained from masks.

    Attributes:
        kind: FinetuneOptions or SamMixTrainOptions.
        values: as the plan gives them.
    """

    kind: type[Any]
    values: Values


@dataclass(frozen=True)
class Further:
    """What becomes of the masks that a method's models predict of test scans.

    Attributes:
        kind: one of `FURTHER`.
        values: as the plan gives them.
        of: the method; None where no model's masks are needed: annotated slices of the references are propagated
            through the scans, or what is in boxes of the references is segmented.
        oracle: whether the references give the boxes.
    """

    kind: type[Any]
    values: Values
    of: str | None
    oracle: bool

    @property
    def guided(self) -> bool:
        """Whether it uses references of the test scans, so that it is no method among others."""
        return self.oracle or self.of is None


@dataclass(frozen=True)
class OtherMasks:
    """Masks of the test scans that another program made.

    Attributes:
        folders: test set → folder.
        entries: test set → where the plan says so.
        target: organs and their label values in these masks; None where they are those of each test set.
        annotation: what that program was trained on, as the plan states it.
        guided: whether references of the test scans gave it slices or boxes.
    """

    folders: Mapping[str, Path]
    entries: Mapping[str, Entry] = field(compare=False)
    target: tuple[str, ...] | None
    annotation: str
    guided: bool


@dataclass(frozen=True)
class MethodPlan:
    """One way to get masks of test scans.

    Attributes:
        pretrain: options of its pre-training, or None for none.
        pretrain_data: the data set it is pre-trained on.
        training: how its models are trained; None where it needs none.
        transductive: whether its pre-training may see test patients; it then sees every scan of its data set.
        backbones: those it is run with; what has none of them stands beside the first.
        budgets: those of the plan that it stands at.
        note: what it is, in one line.
        entry: where the plan says so.
        further: what becomes of its models' masks. Pre-training and training are then those of the method it names.
        other: its masks, where another program made them.
    """

    name: str
    pretrain: Values | None
    pretrain_data: str
    training: Training | None
    transductive: bool
    backbones: tuple[str, ...]
    budgets: tuple[str, ...]
    note: str
    entry: Entry
    further: Further | None = None
    other: OtherMasks | None = None

    @property
    def guided(self) -> bool:
        """Whether references of the test scans gave it slices or boxes."""
        return (self.further is not None and self.further.guided) or (self.other is not None and self.other.guided)

    @property
    def trained_as(self) -> str:
        """Name of the method whose models it uses."""
        return (self.further and self.further.of) or self.name

    def norms(self, backbone: str) -> tuple[Norm, Norm]:
        """Normalisation layers of the pre-training and of the fine-tuning with this backbone.

        A pre-training that is not told any takes those of the fine-tuning, which its encoder must fit.

        Raises:
            OptionError: the backbone cannot have them.
        """
        finetune = {} if self.training is None else self.training.values
        preset = PRESETS[finetune.get("preset", "robust")]
        fitting = choose_norm(backbone, finetune.get("norm"), preset.norm)
        return choose_norm(backbone, (self.pretrain or {}).get("norm"), fitting), fitting


@dataclass(frozen=True)
class Plan:
    """Everything a study does. Tuples are in the order of the file.

    Attributes:
        train: the data set that is fine-tuned on.
        budgets: as `finetune --budget` takes them, and 0 for what learns from no mask.
        budget_entries: budget → where the plan says so.
    """

    name: str
    description: str
    data: dict[str, DataPlan]
    train: str
    tests: tuple[TestPlan, ...]
    backbones: tuple[str, ...]
    methods: tuple[MethodPlan, ...]
    budgets: tuple[str, ...]
    budget_entries: dict[str, Entry]
    draws: tuple[int, ...]
    seeds: tuple[int, ...]
    baseline: str

    def resolved(self) -> dict[str, Any]:
        """The plan as plain data with every default filled in and every path absolute; itself a plan."""
        return {
            "name": self.name,
            "description": self.description,
            "data": {name: _resolved_data(data) for name, data in self.data.items()},
            "train": self.train,
            "tests": {
                t.name: {
                    "data": t.data,
                    "patients": t.patients,
                    "in_domain": t.in_domain,
                    "millimetres": t.millimetres,
                }
                for t in self.tests
            },
            "backbones": list(self.backbones),
            "methods": {m.name: _resolved_method(m) for m in self.methods},
            "budgets": list(self.budgets),
            "draws": list(self.draws),
            "seeds": list(self.seeds),
            "baseline": self.baseline,
        }


def _resolved_data(data: DataPlan) -> dict[str, Any]:
    left_out = NOT_IN_PLANS[PrepareOptions]
    if data.phantoms is None:
        return _simple({k: v for k, v in asdict(data.options).items() if k not in left_out})
    left_out += ("images", "labels")
    made = {k: v for k, v in asdict(data.options).items() if k not in left_out}
    return {"phantoms": data.phantoms, "grid": list(data.grid), **_simple(made)}


def _resolved_method(method: MethodPlan) -> dict[str, Any]:
    content: dict[str, Any] = {"note": method.note, "budgets": list(method.budgets)}
    if method.other is not None:
        return content | {"backbones": list(method.backbones), **_resolved_other(method.other, method.transductive)}
    if method.further is not None:
        return content | _resolved_further(method.further)
    assert method.training is not None  # a method trains, or goes on with masks
    content["backbones"] = list(method.backbones)
    trained = _filled(method.training.kind, method.training.values)
    if method.training.kind is SamMixTrainOptions:
        return content | {"sam_mix": trained}
    content["transductive"] = method.transductive
    if method.pretrain is not None:
        content["pretrain"] = {"data": method.pretrain_data, **_filled(PretrainOptions, method.pretrain)}
    return content | {"finetune": trained}


def _resolved_other(other: OtherMasks, transductive: bool) -> dict[str, Any]:
    target = {} if other.target is None else {"target": list(other.target)}
    masks = {test: str(folder) for test, folder in other.folders.items()}
    stated = {"annotation": other.annotation, "guided": other.guided, "transductive": transductive}
    return {"masks": masks, **stated, **target}


def _resolved_further(further: Further) -> dict[str, Any]:
    name = next(name for name, kind in FURTHER.items() if kind is further.kind)
    values = {k: v for k, v in _filled(further.kind, further.values).items() if k in further.values or k not in SHOWN}
    if further.oracle:
        values["oracle"] = True
    return {**({} if further.of is None else {"of": further.of}), name: values}


def _filled(kind: type[Any], values: Values) -> dict[str, Any]:
    """The values with the defaults of all others that a plan may hold."""
    options = asdict(of_plan(kind, values))
    return _simple({name: value for name, value in options.items() if name not in NOT_IN_PLANS[kind]})


def _simple(values: Values) -> dict[str, Any]:
    def simple(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return [simple(v) for v in value]
        return str(value) if isinstance(value, Path) else value

    return {name: simple(value) for name, value in values.items()}
