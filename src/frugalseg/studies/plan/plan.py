"""A study's plan: which methods, on which data, with how many labels, how often.

`read_plan` makes one of a YAML file (docs/reference/plans.md).
"""

from __future__ import annotations

from dataclasses import dataclass

from frugalseg.studies.plan.data import DataPlan, TestPlan
from frugalseg.studies.plan.method import MethodPlan
from frugalseg.studies.plan.options import Values
from frugalseg.studies.plan.yaml_source import YamlValue


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
    budget_entries: dict[str, YamlValue]
    draws: tuple[int, ...]
    seeds: tuple[int, ...]
    baseline: str

    def resolved(self) -> Values:
        """The plan as plain data with every default filled in and every path absolute; itself a plan."""
        return {
            "name": self.name,
            "description": self.description,
            "data": {name: data.resolved() for name, data in self.data.items()},
            "train": self.train,
            "tests": {test.name: test.resolved() for test in self.tests},
            "backbones": list(self.backbones),
            "methods": {method.name: method.resolved() for method in self.methods},
            "budgets": list(self.budgets),
            "draws": list(self.draws),
            "seeds": list(self.seeds),
            "baseline": self.baseline,
        }
