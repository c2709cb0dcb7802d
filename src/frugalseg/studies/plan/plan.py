"""A study's plan: its methods, data sets, label budgets, draws and seeds.

`read_plan` reads it from a YAML file (docs/reference/plans.md).
"""

from __future__ import annotations

from dataclasses import dataclass

from frugalseg.studies.plan.data import DataPlan, TestPlan
from frugalseg.studies.plan.method import MethodPlan
from frugalseg.studies.plan.options import Values
from frugalseg.studies.plan.yaml_source import YamlValue


@dataclass(frozen=True)
class StudyPlan:
    """A plan. Tuples are in the order of the file.

    Attributes:
        train: the data set for fine-tuning.
        budgets: in the format of `finetune --budget`, or 0 for methods that learn from no mask.
        budget_entries: budget → its place in the plan.
    """

    name: str
    description: str
    data: dict[str, DataPlan]
    train: str
    tests: tuple[TestPlan, ...]
    backbones: tuple[str, ...]
    methods: tuple[MethodPlan, ...]
    budgets: tuple[str, ...]
    budget_entries: dict[str, YamlValue]
    draws: tuple[int, ...]
    seeds: tuple[int, ...]
    baseline: str

    def to_values(self) -> Values:
        """The plan with every default and with absolute paths, as plain data that can be read as a plan again."""
        return {
            "name": self.name,
            "description": self.description,
            "data": {name: data.to_values() for name, data in self.data.items()},
            "train": self.train,
            "tests": {test.name: test.to_values() for test in self.tests},
            "backbones": list(self.backbones),
            "methods": {method.name: method.to_values() for method in self.methods},
            "budgets": list(self.budgets),
            "draws": list(self.draws),
            "seeds": list(self.seeds),
            "baseline": self.baseline,
        }
