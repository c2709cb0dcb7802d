"""The common base of mask makers that process the masks of another method, or the references."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from frugalseg.engine.run import to_plain_options
from frugalseg.studies.jobs.job import EvaluatedJob
from frugalseg.studies.plan.data import ScansToSegment
from frugalseg.studies.plan.method import MaskMaker, MethodPlan
from frugalseg.studies.plan.method_parts import SharedSettings, read_note, read_own_budgets
from frugalseg.studies.plan.options import GREY_OPTIONS, CommandOptions, Values, make_options
from frugalseg.studies.plan.values import read_choice, read_values
from frugalseg.studies.plan.yaml_source import YamlValue

F = TypeVar("F", bound="FollowUp")


@dataclass(frozen=True)
class FollowUp(MaskMaker):
    """A mask maker that processes the masks which a method's models predict of test scans.

    Attributes:
        OPTIONS: options of the command that makes the new masks.
        TAKES_ORACLE: whether a plan may say `oracle: true`.
        values: the options as given in the plan.
        of: the method; None where no model is needed: slices of the references are propagated through the scans, or
            boxes of the references are segmented.
        oracle: whether the boxes come from the references.
    """

    OPTIONS: ClassVar[CommandOptions]
    TAKES_ORACLE: ClassVar[bool] = True
    values: Values
    of: str | None
    oracle: bool

    @classmethod
    def read(cls, name: str, entry: YamlValue, shared: SharedSettings, others: Mapping[str, MethodPlan]) -> MethodPlan:
        """See `MaskMaker.read`."""
        given = entry.check_keys("note", "of", cls.KEY, "budgets")
        before = read_source(given["of"], others) if "of" in given else None
        of = None if before is None else before.name
        values = read_values(cls.OPTIONS, given[cls.KEY], {}, *(("oracle",) if cls.TAKES_ORACLE else ()))
        oracle = given[cls.KEY].mapping().get("oracle")
        maker = cls(values, of, bool(oracle is not None and oracle.as_type(bool))).check_plan(given, entry, before)
        note = read_note(given, maker.describe_method(make_options(cls.OPTIONS.kind, values)))
        if before is None:
            budgets = read_own_budgets(given, shared.budgets, trained=False)
            alone = shared.backbones[:1]
            return MethodPlan(name, None, shared.pretrain_data, None, False, alone, budgets, note, entry, maker)
        budgets = read_own_budgets(given, before.budgets, trained=True)
        return replace(before, name=name, budgets=budgets, note=note, entry=entry, masks=maker, sources=(before,))

    @abstractmethod
    def check_plan(self: F, given: Mapping[str, YamlValue], entry: YamlValue, before: MethodPlan | None) -> F:
        """Check the keys together and return the mask maker, completed; `before` is the method `of`.

        Raises:
            OptionError: keys that are missing or do not fit together.
        """

    @abstractmethod
    def describe_method(self, options: Any) -> str:
        """The method in one line, the default of its note."""

    def to_values(self, method: MethodPlan) -> Values:
        """See `MaskMaker.to_values`."""
        filled = self.OPTIONS.fill_defaults(self.values)
        values = {k: v for k, v in filled.items() if k in self.values or k not in GREY_OPTIONS}
        if self.oracle:
            values["oracle"] = True
        return {**({} if self.of is None else {"of": self.of}), self.KEY: values}

    @property
    def uses_test_references(self) -> bool:
        """See `MaskMaker.uses_test_references`."""
        return self.oracle or self.of is None

    def identity(
        self, method: str, tests: Sequence[ScansToSegment], sources: Sequence[EvaluatedJob]
    ) -> dict[str, object]:
        """See `MaskMaker.identity`; without a model the masks are the same for every budget, draw and seed."""
        options = make_options(self.OPTIONS.kind, self.values)
        command = {"command": self.OPTIONS.kind.__name__, "values": to_plain_options(options), "oracle": self.oracle}
        return {**command, "of": sources[0].id if sources else None}

    def test_identity(self, scans: ScansToSegment) -> dict[str, object]:
        """See `MaskMaker.test_identity`."""
        return dict(scans.grey)

    def command_options(self, scans: ScansToSegment, out: Path) -> Values:
        """The options of its command that are set by the study and by the plan."""
        oracle = {"oracle": scans.references} if self.oracle else {}
        return {**scans.common_options(out), **oracle, **self.values}


def read_source(entry: YamlValue, others: Mapping[str, MethodPlan]) -> MethodPlan:
    """The method that a plan names as the one whose models or masks are used."""
    return others[read_choice(entry, others, "method that trains models or averages them")]


def input_masks_folder(sources: Sequence[EvaluatedJob], scans: ScansToSegment) -> Path:
    """The folder of the masks to process: those of the only source, or the references."""
    if not sources:
        return scans.references
    (masks,) = (test.evaluate.predictions for test in sources[0].tests if test.name == scans.name)
    return masks
