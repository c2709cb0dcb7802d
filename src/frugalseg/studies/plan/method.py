"""A plan's methods, and what a training or a mask maker must be able to do to stand in one.

Adding one to studies is a class of `Training` or `MaskMaker` in a file of its own, and its line in `TRAININGS`
(`studies.trainings.table`) or `MASK_MAKERS` (`studies.mask_makers.table`). Nothing else knows which there are.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from frugalseg.models.registry import choose_norm
from frugalseg.options import Norm
from frugalseg.segmentation.presets import PRESETS
from frugalseg.studies.jobs.job import Job, ModelJob
from frugalseg.studies.plan.data import ScansToSegment
from frugalseg.studies.plan.method_parts import Shared
from frugalseg.studies.plan.options import PRETRAIN, CommandOptions, Values
from frugalseg.studies.plan.yaml_source import YamlValue


@dataclass(frozen=True)
class Training(ABC):
    """How a model is trained from masks, and how it predicts.

    Attributes:
        KEY: of a method in a plan that is trained so.
        OPTIONS: of the command; the grid gives budget, draw, seed, backbone, encoder and transductive, where it has
            them.
        values: the options as the plan gives them.
    """

    KEY: ClassVar[str]
    OPTIONS: ClassVar[CommandOptions]
    values: Values

    @classmethod
    @abstractmethod
    def read(cls, name: str, entry: YamlValue, shared: Shared) -> MethodPlan:
        """The method that `entry` describes, all of it checked; raises `OptionError` naming the line."""

    def resolved(self, method: MethodPlan) -> Values:
        """The keys of the method in a plan, every default filled in."""
        return {self.KEY: self.OPTIONS.filled(self.values)}

    @abstractmethod
    def content(self, options: Any) -> dict[str, object]:
        """What shapes the model beside its options, as their names do not tell it: hashes of weights, a preset."""

    @abstractmethod
    def prediction(self, options: Any, scans: ScansToSegment, out: Path) -> Any:
        """What `make` is given to predict `scans` into `out` with the model of these training options."""

    @staticmethod
    @abstractmethod
    def train(options: Any) -> object:
        """Train a model: a run folder in `options.out`, resumed where one was begun. Runs in the job's process."""

    @staticmethod
    @abstractmethod
    def make(options: Any) -> object:
        """Predict; runs in the job's process."""

    @staticmethod
    def unlabelled(options: Any) -> str:
        """How a training with these options uses unlabelled slices."""
        return "none"


class MaskMaker(ABC):
    """What makes masks of test scans without training a model: of the masks of another method, of the references, or of
    what lies in a folder.

    Attributes:
        KEY: of a method in a plan that gets its masks so.
    """

    KEY: ClassVar[str]

    @classmethod
    @abstractmethod
    def read(cls, name: str, entry: YamlValue, shared: Shared, trained: Mapping[str, MethodPlan]) -> MethodPlan:
        """The method that `entry` describes, all of it checked; raises `OptionError` naming the line.

        Args:
            name: of the method.
            entry: what the plan says of it.
            shared: what the plan says of all.
            trained: the plan's methods that train models, whose masks it may go on with.
        """

    @abstractmethod
    def resolved(self, method: MethodPlan) -> Values:
        """The keys of the method in a plan, every default filled in."""

    @property
    def uses_test_references(self) -> bool:
        """Whether references of the test scans give it slices or boxes, so that it is no method among others."""
        return False

    @property
    def annotation(self) -> str | None:
        """What was learned from, as the plan states it; None where the study knows."""
        return None

    def preparation(self, method: str, scans: ScansToSegment) -> tuple[Job, YamlValue] | None:
        """A job to be done before the grid is known, and the place in the plan that it is about; None for none."""
        return None

    @staticmethod
    def prepare(options: Any, threads: int) -> object:
        """Do that job; runs in its process."""
        return None

    @abstractmethod
    def content(self, method: str, tests: Sequence[ScansToSegment], model: ModelJob | None) -> dict[str, object]:
        """All that shapes the masks, beside the test scans: a job whose content is another is another job."""

    def content_of_test(self, scans: ScansToSegment) -> dict[str, object]:
        """What of a test set shapes its masks, beside its scans."""
        return {}

    @abstractmethod
    def options(self, method: str, scans: ScansToSegment, model: ModelJob | None, out: Path) -> Any:
        """What `make` is given to write masks of `scans` into `out`; `model` is the one it goes on with, or None."""

    @staticmethod
    @abstractmethod
    def make(options: Any) -> object:
        """Make the masks; runs in the job's process."""


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
        masks: what makes its masks, where that is not its models themselves.
        models_of: the method whose models it uses, where they are another's; so are then pre-training and training.
    """

    name: str
    pretrain: Values | None
    pretrain_data: str
    training: Training | None
    transductive: bool
    backbones: tuple[str, ...]
    budgets: tuple[str, ...]
    note: str
    entry: YamlValue
    masks: MaskMaker | None = None
    models_of: str | None = None

    @property
    def uses_test_references(self) -> bool:
        """Whether references of the test scans gave it slices or boxes."""
        return self.masks is not None and self.masks.uses_test_references

    @property
    def trained_as(self) -> str:
        """Name of the method whose models it uses."""
        return self.models_of or self.name

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

    def resolved(self) -> Values:
        """As plain data with every default filled in; itself a method of a plan."""
        content = {"note": self.note, "budgets": list(self.budgets)}
        if self.masks is not None:
            return {**content, **self.masks.resolved(self)}
        assert self.training is not None  # a method trains, or has masks made
        content["backbones"] = list(self.backbones)
        return {**content, **self.training.resolved(self)}

    def resolved_pretraining(self) -> Values:
        """Its keys about pre-training."""
        told: dict[str, object] = {"transductive": self.transductive}
        if self.pretrain is not None:
            told["pretrain"] = {"data": self.pretrain_data, **PRETRAIN.filled(self.pretrain)}
        return told
