"""Adding a mask maker to studies: one class, and its line in the table. The one here stands in this file alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml

from frugalseg.errors import OptionError
from frugalseg.imaging.find import find_dataset
from frugalseg.imaging.read import read_volume
from frugalseg.imaging.write import mask_path, write_mask
from frugalseg.studies.jobs.job import EvaluatedJob, Job, MaskPreparationJob
from frugalseg.studies.mask_makers.table import MASK_MAKERS
from frugalseg.studies.plan.data import ScansToSegment
from frugalseg.studies.plan.method import MaskMaker, MethodPlan
from frugalseg.studies.plan.method_parts import SharedSettings, read_note, read_own_budgets
from frugalseg.studies.plan.options import Values
from frugalseg.studies.plan.reader import read_plan
from frugalseg.studies.plan.yaml_source import YamlValue
from frugalseg.studies.report.results import collect_results
from frugalseg.studies.run import study
from frugalseg.studies.trainings.table import TRAININGS
from tests.studies.plans import changed, options, write_plan


@dataclass(frozen=True)
class MasksToThreshold:
    """What `Threshold.make` is given."""

    scans: ScansToSegment
    above: float
    out: Path


@dataclass(frozen=True)
class Threshold(MaskMaker):
    """Everything brighter than a value is the first organ."""

    KEY = "threshold"
    above: float
    entry: YamlValue

    @classmethod
    def read(cls, name: str, entry: YamlValue, shared: SharedSettings, others: Mapping[str, MethodPlan]) -> MethodPlan:
        given = entry.check_keys("note", "threshold", "budgets")
        budgets = read_own_budgets(given, shared.budgets, trained=False)
        maker = cls(given["threshold"].as_type(float), given["threshold"])
        note = read_note(given, f"everything above {maker.above:g}")
        alone = shared.backbones[:1]
        return MethodPlan(name, None, shared.pretrain_data, None, False, alone, budgets, note, entry, maker)

    def to_values(self, method: MethodPlan) -> Values:
        return {"threshold": self.above}

    def preparation_job(self, method: str, scans: ScansToSegment) -> tuple[Job, YamlValue]:
        asked = MasksToThreshold(scans, self.above, scans.study / f"{method}.{scans.name}.json")
        return MaskPreparationJob(id=f"prepare.{method}.{scans.name}", maker=type(self), options=asked), self.entry

    @staticmethod
    def prepare(options: MasksToThreshold, threads: int) -> None:
        options.out.write_text(json.dumps(sorted(options.scans.case)))

    def identity(
        self, method: str, tests: Sequence[ScansToSegment], sources: Sequence[EvaluatedJob]
    ) -> dict[str, object]:
        return {"above": self.above}

    def mask_options(
        self, method: str, scans: ScansToSegment, sources: Sequence[EvaluatedJob], out: Path
    ) -> MasksToThreshold:
        return MasksToThreshold(scans, self.above, out)

    @staticmethod
    def make(options: MasksToThreshold) -> None:
        images, _ = find_dataset(options.scans.images, None)
        value = int(options.scans.target[0].partition("=")[2])
        for case in options.scans.case:
            scan = read_volume(images[case])
            mask = np.where(scan.array > options.above, value, 0).astype(np.uint8)
            write_mask(scan.with_array(mask), mask_path(options.out, case, images[case]))


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setitem(MASK_MAKERS, Threshold.KEY, Threshold)


def test_a_mask_maker_of_this_file_runs_in_a_study_from_the_plan_to_the_report(tmp_path, registered):
    plan = changed(
        ("  polycl: {pretrain: {method: polycl-s}}\n", "  bright: {threshold: 50}\n"),
        ("  polycl again:\n    pretrain: {method: polycl-s}\n    finetune: {lr: 0.001}\n", ""),
        ("seeds: [0, 1]", "seeds: [0]"),
    )
    out = tmp_path / "out"
    study(options(write_plan(tmp_path, plan), out))

    trials = collect_results(out).trials.set_index("method")
    assert trials["state"].to_dict() == {"scratch": "done", "bright": "done"}
    assert not trials.loc["bright", "trained"]
    cases = collect_results(out).cases
    assert set(cases.loc[cases["method"] == "bright", "test"]) == {"held out", "away"}
    assert "everything above 50" in (out / "report.html").read_text()
    assert json.loads((out / "bright.held out.json").read_text()), "its preparation was done"
    assert yaml.safe_load((out / "plan.yaml").read_text())["methods"]["bright"]["threshold"] == 50
    assert [m.name for m in read_plan(out / "plan.yaml").methods] == ["scratch", "bright"]


def test_without_its_entry_it_is_unknown(tmp_path):
    path = write_plan(tmp_path, changed(("  polycl: {pretrain: {method: polycl-s}}\n", "  bright: {threshold: 50}\n")))
    with pytest.raises(OptionError, match=r"methods\.bright\.threshold: is unknown here"):
        read_plan(path)


def test_every_entry_is_named_as_in_a_plan():
    for table in (MASK_MAKERS, TRAININGS):
        assert {key: entry.KEY for key, entry in table.items()} == {key: key for key in table}
