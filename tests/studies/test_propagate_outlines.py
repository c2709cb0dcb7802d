"""`propagate` in the fine-tuning of a plan: a training of its own, for budgets of slices."""

from __future__ import annotations

import pytest

from frugalseg.errors import OptionError
from frugalseg.studies.jobs.datasets import check_data
from frugalseg.studies.jobs.job import ModelJob
from tests.studies.plans import write_plan
from tests.studies.test_choose import text_with
from tests.studies.test_grid import grid_of, prepared

METHODS = """methods:
  scratch: {finetune: {preset: best}}
  named: {finetune: {preset: best, engine: box}}
  propagated: {finetune: {preset: best, propagate: promptable.pth}}
"""


def test_only_with_propagation_it_is_another_training(tmp_path):
    write_plan(tmp_path)
    (tmp_path / "promptable.pth").write_bytes(b"one")
    trials = grid_of(tmp_path, text_with("3 slices", methods=METHODS)).trials
    jobs = {trial.method: trial.job for trial in trials if isinstance(trial.job, ModelJob)}
    hashes = {name: job.id.rsplit("-", 1)[1] for name, job in jobs.items()}
    assert hashes["scratch"] == hashes["named"] != hashes["propagated"]
    assert jobs["propagated"].options.propagate == str(tmp_path / "promptable.pth")


def test_a_budget_of_scans_is_refused_before_training(tmp_path):
    write_plan(tmp_path)
    (tmp_path / "promptable.pth").write_bytes(b"one")
    plan, datasets = prepared(tmp_path, text_with("1 scans", methods=METHODS))
    with pytest.raises(OptionError, match=r"applies to budgets of slices.*\(1 scans\)"):
        check_data(plan, datasets)


def test_weights_that_are_not_there_are_told_when_the_plan_is_read(tmp_path):
    write_plan(tmp_path)
    with pytest.raises(OptionError, match=r"unknown weights 'promptable\.pth'"):
        prepared(tmp_path, text_with("3 slices", methods=METHODS))
