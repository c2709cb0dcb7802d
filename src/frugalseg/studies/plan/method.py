"""The methods of a plan, and the interfaces of the trainings and mask makers that they use.

To add one to studies, write a class of `StudyTraining` or `MaskMaker` in a separate file and enter it in `TRAININGS`
(`studies.trainings.table`) or `MASK_MAKERS` (`studies.mask_makers.table`). No other code refers to a single one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from frugalseg.options import Norm
from frugalseg.segmentation.architecture import choose_norm_of
from frugalseg.segmentation.presets import PRESETS
from frugalseg.studies.jobs.job import EvaluatedJob, Job
from frugalseg.studies.plan.data import ScansToSegment
from frugalseg.studies.plan.method_parts import SharedSettings
from frugalseg.studies.plan.options import PRETRAIN, CommandOptions, Values
from frugalseg.studies.plan.yaml_source import YamlValue


@dataclass(frozen=True)
class StudyTraining(ABC):
    """How a model is trained from masks, and how it predicts.

    Attributes:
        KEY: key of the methods in a plan that use this training.
        OPTIONS: options of the command; of these the grid sets budget, draw, seed, backbone, encoder and transductive.
        values: the options as given in the plan.
    """

    KEY: ClassVar[str]
    OPTIONS: ClassVar[CommandOptions]
    values: Values

    @classmethod
    @abstractmethod
    def read(cls, name: str, entry: YamlValue, shared: SharedSettings) -> MethodPlan:
        """Read and check the method that `entry` describes; raises `OptionError` with the line."""

    def to_values(self, method: MethodPlan) -> Values:
        """The keys of the method in a plan, with every default."""
        return {self.KEY: self.OPTIONS.fill_defaults(self.values)}

    @abstractmethod
    def identity(self, options: Any) -> dict[str, object]:
        """What determines the model besides its options' values: hashes of weights, the content of a preset."""

    @abstractmethod
    def prediction_options(self, options: Any, scans: ScansToSegment, out: Path) -> Any:
        """The options of `make` that predict `scans` into `out` with the model of these training options."""

    @staticmethod
    @abstractmethod
    def train(options: Any) -> object:
        """Train a model into the run folder `options.out`, resuming an earlier run. Runs in the job's process."""

    @staticmethod
    @abstractmethod
    def make(options: Any) -> object:
        """Predict; runs in the job's process."""

    @staticmethod
    def unlabelled_use(options: Any) -> str:
        """How a training with these options uses unlabelled slices: "none", or the name of the method."""
        return "none"


class MaskMaker(ABC):
    """Makes masks of test scans without training a model: from the masks of another method, from the references, or
    from masks in a folder.

    Attributes:
        KEY: key of the methods in a plan that use this mask maker.
        IS_SOURCE: whether other mask makers may process its masks; it then uses only methods that train models.
    """

    KEY: ClassVar[str]
    IS_SOURCE: ClassVar[bool] = False

    @classmethod
    @abstractmethod
    def read(cls, name: str, entry: YamlValue, shared: SharedSettings, others: Mapping[str, MethodPlan]) -> MethodPlan:
        """Read and check the method that `entry` describes; raises `OptionError` with the line.

        Args:
            name: of the method.
            entry: its mapping in the plan.
            shared: settings outside the methods.
            others: the plan's methods whose models or masks it may use (see `IS_SOURCE`).
        """

    @abstractmethod
    def to_values(self, method: MethodPlan) -> Values:
        """The keys of the method in a plan, with every default."""

    @property
    def uses_test_references(self) -> bool:
        """Whether it takes slices or boxes from references of the test scans, and so is not ranked with the others."""
        return False

    @property
    def annotation(self) -> str | None:
        """The training annotation as the plan states it; None where the study itself knows it."""
        return None

    def preparation_job(self, method: str, scans: ScansToSegment) -> tuple[Job, YamlValue] | None:
        """A job that must be done before the grid is built, and the place in the plan for its errors; or None."""
        return None

    @staticmethod
    def prepare(options: Any, threads: int) -> object:
        """Do the preparation job. Runs in the job's process."""
        return None

    @abstractmethod
    def identity(
        self, method: str, tests: Sequence[ScansToSegment], sources: Sequence[EvaluatedJob]
    ) -> dict[str, object]:
        """Everything that determines the masks, except the test scans; a hash of it is part of the job's id."""

    def test_identity(self, scans: ScansToSegment) -> dict[str, object]:
        """Properties of a test set that determine its masks, except its scans."""
        return {}

    @abstractmethod
    def mask_options(self, method: str, scans: ScansToSegment, sources: Sequence[EvaluatedJob], out: Path) -> Any:
        """The options of `make` that write masks of `scans` into `out`.

        Args:
            method: its name.
            scans: the test scans.
            sources: the jobs of `MethodPlan.sources`: those that made the masks to process.
            out: the folder to write.
        """

    @staticmethod
    @abstractmethod
    def make(options: Any) -> object:
        """Make the masks. Runs in the job's process."""


@dataclass(frozen=True)
class MethodPlan:
    """A method of the study: one way to get masks of the test scans.

    Attributes:
        pretrain: options of its pre-training; None without one.
        pretrain_data: the data set of its pre-training.
        training: how its models are trained; None without a model.
        transductive: whether its pre-training may see test patients; it then sees every scan of its data set.
        backbones: the backbones it is run with; a method without a backbone is listed at the plan's first one.
        budgets: the budgets of the plan at which it is run.
        note: a description in one line.
        entry: its place in the plan.
        masks: the mask maker; None where the models themselves predict the masks.
        sources: the methods whose models or masks the mask maker uses; pre-training and training above are then those
            of the first.
    """

    name: str
    pretrain: Values | None
    pretrain_data: str
    training: StudyTraining | None
    transductive: bool
    backbones: tuple[str, ...]
    budgets: tuple[str, ...]
    note: str
    entry: YamlValue
    masks: MaskMaker | None = None
    sources: tuple[MethodPlan, ...] = ()

    @property
    def uses_test_references(self) -> bool:
        """Whether it takes slices or boxes from references of the test scans."""
        return self.masks is not None and self.masks.uses_test_references

    def backbone_beside(self, backbone: str) -> str:
        """Its backbone where another method that uses its models is run with `backbone`: the same, or its only one."""
        return backbone if backbone in self.backbones else self.backbones[0]

    def choose_norms(self, backbone: str) -> tuple[Norm, Norm]:
        """Normalisation layers of the pre-training and of the fine-tuning with this backbone.

        The default of the pre-training is the normalisation of the fine-tuning, which its encoder must match.

        Raises:
            OptionError: the backbone does not support them.
        """
        finetune = {} if self.training is None else self.training.values
        preset = PRESETS[finetune.get("preset", "robust")]
        fitting = choose_norm_of(backbone, finetune.get("norm"), preset.norm)
        return choose_norm_of(backbone, (self.pretrain or {}).get("norm"), fitting), fitting

    def to_values(self) -> Values:
        """The method as in a plan, with every default."""
        content = {"note": self.note, "budgets": list(self.budgets)}
        if self.masks is not None:
            return {**content, **self.masks.to_values(self)}
        assert self.training is not None  # a method trains, or has masks made
        content["backbones"] = list(self.backbones)
        return {**content, **self.training.to_values(self)}

    def pretraining_values(self) -> Values:
        """The keys of its pre-training."""
        values: dict[str, object] = {"transductive": self.transductive}
        if self.pretrain is not None:
            values["pretrain"] = {"data": self.pretrain_data, **PRETRAIN.fill_defaults(self.pretrain)}
        return values
