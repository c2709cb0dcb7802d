"""What the mask makers have in common that go on with the masks of a method, or with the references."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from frugalseg.engine.run import to_plain_options
from frugalseg.studies.jobs.job import ModelJob
from frugalseg.studies.plan.data import ScansToSegment
from frugalseg.studies.plan.method import MaskMaker, MethodPlan
from frugalseg.studies.plan.method_parts import Shared, own_budgets, own_note
from frugalseg.studies.plan.options import SHOWN, CommandOptions, Values, of_plan
from frugalseg.studies.plan.values import chosen, read_values
from frugalseg.studies.plan.yaml_source import YamlValue

F = TypeVar("F", bound="FollowUp")


@dataclass(frozen=True)
class FollowUp(MaskMaker):
    """What becomes of the masks that a method's models predict of test scans.

    Attributes:
        OPTIONS: of the command that makes the new masks.
        TAKES_ORACLE: whether a plan may say `oracle: true`.
        values: as the plan gives them.
        of: the method; None where no model's masks are needed: annotated slices of the references are propagated
            through the scans, or boxes of the references are segmented.
        oracle: whether the references give the boxes.
    """

    OPTIONS: ClassVar[CommandOptions]
    TAKES_ORACLE: ClassVar[bool] = True
    values: Values
    of: str | None
    oracle: bool

    @classmethod
    def read(cls, name: str, entry: YamlValue, shared: Shared, trained: Mapping[str, MethodPlan]) -> MethodPlan:
        """See `MaskMaker.read`."""
        given = entry.known("note", "of", cls.KEY, "budgets")
        of = chosen(given["of"], trained, "method that trains models") if "of" in given else None
        before = None if of is None else trained[of]
        values = read_values(cls.OPTIONS, given[cls.KEY], {}, *(("oracle",) if cls.TAKES_ORACLE else ()))
        oracle = given[cls.KEY].mapping().get("oracle")
        maker = cls(values, of, bool(oracle is not None and oracle.as_type(bool))).checked(given, entry, before)
        note = own_note(given, maker.note(of_plan(cls.OPTIONS.kind, values)))
        if before is None:
            budgets = own_budgets(given, shared.budgets, trained=False)
            alone = shared.backbones[:1]
            return MethodPlan(name, None, shared.pretrain_data, None, False, alone, budgets, note, entry, maker)
        budgets = own_budgets(given, before.budgets, trained=True)
        return replace(before, name=name, budgets=budgets, note=note, entry=entry, masks=maker, models_of=of)

    @abstractmethod
    def checked(self: F, given: Mapping[str, YamlValue], entry: YamlValue, before: MethodPlan | None) -> F:
        """Itself, once what the plan says makes sense together; `before` is the method `of`. Raises `OptionError`."""

    @abstractmethod
    def note(self, options: Any) -> str:
        """What such a method is, in one line."""

    def resolved(self, method: MethodPlan) -> Values:
        """See `MaskMaker.resolved`."""
        filled = self.OPTIONS.filled(self.values)
        values = {k: v for k, v in filled.items() if k in self.values or k not in SHOWN}
        if self.oracle:
            values["oracle"] = True
        return {**({} if self.of is None else {"of": self.of}), self.KEY: values}

    @property
    def uses_test_references(self) -> bool:
        """See `MaskMaker.uses_test_references`."""
        return self.oracle or self.of is None

    def content(self, method: str, tests: Sequence[ScansToSegment], model: ModelJob | None) -> dict[str, object]:
        """See `MaskMaker.content`; without a model the masks are the same for every budget, draw and seed."""
        options = of_plan(self.OPTIONS.kind, self.values)
        told = {"command": self.OPTIONS.kind.__name__, "values": to_plain_options(options), "oracle": self.oracle}
        return {**told, "of": None if model is None else model.id}

    def content_of_test(self, scans: ScansToSegment) -> dict[str, object]:
        """See `MaskMaker.content_of_test`."""
        return dict(scans.grey)

    def given(self, scans: ScansToSegment, out: Path) -> Values:
        """The options that the study and the plan give its command."""
        oracle = {"oracle": scans.references} if self.oracle else {}
        return {**scans.options(out), **oracle, **self.values}


def masks_of(model: ModelJob | None, scans: ScansToSegment) -> Path:
    """The folder of masks that is gone on with: those of a model, or the references."""
    if model is None:
        return scans.references
    (masks,) = (test.evaluate.predictions for test in model.tests if test.name == scans.name)
    return masks
