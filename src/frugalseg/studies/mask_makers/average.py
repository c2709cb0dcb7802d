"""Masks from the mean of the probabilities that the models of several methods predict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from frugalseg.options import PredictOptions
from frugalseg.studies.jobs.job import EvaluatedJob
from frugalseg.studies.mask_makers.follow_up import read_source
from frugalseg.studies.plan.data import ScansToSegment
from frugalseg.studies.plan.method import MaskMaker, MethodPlan
from frugalseg.studies.plan.method_parts import SharedSettings, read_note, read_own_budgets
from frugalseg.studies.plan.options import Values
from frugalseg.studies.plan.yaml_source import YamlValue
from frugalseg.studies.trainings.finetune import Finetune


@dataclass(frozen=True)
class Average(MaskMaker):
    """`frugalseg predict --model A B …`.

    Attributes:
        of: the methods, whose models were trained on the same labels.
    """

    KEY = "average"
    IS_SOURCE = True
    of: tuple[str, ...]

    @classmethod
    def read(cls, name: str, entry: YamlValue, shared: SharedSettings, others: Mapping[str, MethodPlan]) -> MethodPlan:
        """See `MaskMaker.read`."""
        given = entry.check_keys("note", "average", "budgets")
        listed = given["average"].read_list()
        methods = [read_source(one, others) for one in listed]
        if len({method.name for method in methods}) < max(2, len(methods)):
            raise given["average"].error("needs two or more different methods", "for example [best, frozen]")
        for one, method in zip(listed, methods, strict=True):
            _check_member(one, method, methods[0])
        budgets = tuple(b for b in methods[0].budgets if all(b in method.budgets for method in methods))
        of = tuple(method.name for method in methods)
        return replace(
            methods[0],
            name=name,
            transductive=any(method.transductive for method in methods),
            budgets=read_own_budgets(given, budgets, trained=True),
            note=read_note(given, f"mean of the probabilities of {' and '.join(of)}"),
            entry=entry,
            masks=cls(of),
            sources=tuple(methods),
        )

    def to_values(self, method: MethodPlan) -> Values:
        """See `MaskMaker.to_values`."""
        return {self.KEY: list(self.of)}

    def identity(
        self, method: str, tests: Sequence[ScansToSegment], sources: Sequence[EvaluatedJob]
    ) -> dict[str, object]:
        """See `MaskMaker.identity`."""
        return {"command": self.KEY, "of": [source.id for source in sources]}

    def mask_options(
        self, method: str, scans: ScansToSegment, sources: Sequence[EvaluatedJob], out: Path
    ) -> PredictOptions:
        """See `MaskMaker.mask_options`: the options of the first model's own prediction, with all models."""
        alone: PredictOptions = next(test.make for test in sources[0].tests if test.name == scans.name)
        cached = [test.make.cache for source in sources for test in source.tests if test.make.cache is not None]
        runs = [source.run for source in sources if source.run is not None]
        return replace(alone, model=runs, out=out, cache=cached[0] if cached else None)

    @staticmethod
    def make(options: PredictOptions) -> object:
        """See `MaskMaker.make`."""
        return Finetune.make(options)


def _check_member(entry: YamlValue, method: MethodPlan, first: MethodPlan) -> None:
    """Refuse a method whose models cannot be averaged with those of the first, or not for the same labels."""
    if not isinstance(method.training, Finetune):
        raise entry.error(f"{method.name} is not a method of finetune", "average only models of finetune")
    if len(method.backbones) > 1 and not set(first.backbones) <= set(method.backbones):
        raise entry.error(
            f"{method.name} has other backbones than {first.name}", "restrict both to one with backbones: […]"
        )
    assert first.training is not None  # it was checked first
    for key, default in (("choose", "random"), ("middle_fraction", 1.0)):
        mine, theirs = (m.training.values.get(key, default) for m in (method, first) if m.training is not None)
        if mine != theirs:
            raise entry.error(
                f"{method.name} is trained on other labels than {first.name} ({key}: {mine}, not {theirs})",
                f"give both the same {key}",
            )
