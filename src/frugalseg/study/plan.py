"""A study's plan: which methods, on which data, with how many labels, how often.

`read_plan` makes one of a YAML file (docs/reference/plans.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from frugalseg.dataset.targets import parse_targets
from frugalseg.models.registry import choose_norm
from frugalseg.options import FinetuneOptions, Norm, PrepareOptions, PretrainOptions
from frugalseg.segment.presets import PRESETS
from frugalseg.study.lines import Entry

Values = Mapping[str, Any]

NOT_IN_PLANS: dict[type, tuple[str, ...]] = {
    PrepareOptions: ("out", "workers"),
    PretrainOptions: ("data", "out", "split", "seed", "resume", "checkpoint_minutes", "backbone"),
    FinetuneOptions: (
        *("data", "out", "split", "seed", "resume", "checkpoint_minutes", "backbone"),
        *("encoder", "budget", "draw", "transductive"),
    ),
}
"""Options that the study itself sets, from the grid and the output folder."""

NOWHERE = Path("-")
"""Stands for a path that is not known yet, where options are only checked."""


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
    def intensity(self) -> str:
        """How intensities become [0, 1]."""
        low, high = self.options.window if self.options.modality == "ct" else self.options.percentiles
        return f"{self.options.modality} {low:g}…{high:g}"


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
class MethodPlan:
    """One way to get a model.

    Attributes:
        pretrain: options of its pre-training, or None for none.
        pretrain_data: the data set it is pre-trained on.
        finetune: options of its fine-tuning.
        transductive: whether its pre-training may see test patients; it then sees every scan of its data set.
        backbones: those it is run with.
        note: what it is, in one line.
        entry: where the plan says so.
    """

    name: str
    pretrain: Values | None
    pretrain_data: str
    finetune: Values
    transductive: bool
    backbones: tuple[str, ...]
    note: str
    entry: Entry

    def norms(self, backbone: str) -> tuple[Norm, Norm]:
        """Normalisation layers of the pre-training and of the fine-tuning with this backbone.

        A pre-training that is not told any takes those of the fine-tuning, which its encoder must fit.

        Raises:
            OptionError: the backbone cannot have them.
        """
        preset = PRESETS[self.finetune.get("preset", "robust")]
        fitting = choose_norm(backbone, self.finetune.get("norm"), preset.norm)
        return choose_norm(backbone, (self.pretrain or {}).get("norm"), fitting), fitting


@dataclass(frozen=True)
class Plan:
    """Everything a study does. Tuples are in the order of the file.

    Attributes:
        train: the data set that is fine-tuned on.
        budgets: as `finetune --budget` takes them.
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
    content: dict[str, Any] = {"note": method.note, "backbones": list(method.backbones)}
    content["transductive"] = method.transductive
    if method.pretrain is not None:
        content["pretrain"] = {"data": method.pretrain_data, **_filled(PretrainOptions, method.pretrain)}
    content["finetune"] = _filled(FinetuneOptions, method.finetune)
    return content


def _filled(kind: type[Any], values: Values) -> dict[str, Any]:
    """The values with the defaults of all others that a plan may hold."""
    options = asdict(kind(data=NOWHERE, out=NOWHERE, **values))
    return _simple({name: value for name, value in options.items() if name not in NOT_IN_PLANS[kind]})


def _simple(values: Values) -> dict[str, Any]:
    def simple(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return [simple(v) for v in value]
        return str(value) if isinstance(value, Path) else value

    return {name: simple(value) for name, value in values.items()}
