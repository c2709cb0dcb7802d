"""`choose` in a plan: trainings of earlier studies keep their names, and a rule needs budgets of slices."""

from __future__ import annotations

import dataclasses

import pytest

from frugalseg.errors import OptionError
from frugalseg.options import FinetuneOptions
from frugalseg.studies.jobs import trial_builder
from frugalseg.studies.jobs.datasets import check_data
from frugalseg.studies.jobs.job import ModelJob
from tests.studies.plans import changed, write_plan
from tests.studies.test_grid import grid_of, prepared

METHODS = """methods:
  scratch: {}
  named: {finetune: {choose: random}}
  middle: {finetune: {choose: middle}}
  suggested: {finetune: {choose: suggest}}
"""


def text_with(budget, draws="[0]", methods=METHODS):
    old = changed(('["1 scans"]', f'["{budget}"]'), ("draws: [0]", f"draws: {draws}"), ("seeds: [0, 1]", "seeds: [0]"))
    start = old.index("methods:")
    end = min(old.index(key) for key in ("budgets:", "baseline:") if old.index(key) > start)
    return old[:start] + methods + old[end:]


def models_of(grid):
    return {t.method: t.job for t in grid.trials if isinstance(t.job, ModelJob)}


def test_random_choice_leaves_the_name_of_a_training_as_it_was(tmp_path, monkeypatch):
    write_plan(tmp_path)
    models = models_of(grid_of(tmp_path, text_with("3 slices")))
    hashes = {name: job.id.rsplit("-", 1)[1] for name, job in models.items()}
    assert hashes["scratch"] == hashes["named"]
    assert len(set(hashes.values())) == 3

    seen = {}
    monkeypatch.setattr(trial_builder, "short_hash", lambda content: seen.setdefault(str(content), "0" * 8))
    grid_of(tmp_path, text_with("3 slices"))
    trained = [text for text in seen if "label_draw" in text]
    known = {field.name for field in dataclasses.fields(FinetuneOptions)}
    assert "choose" in known
    assert sorted("'choose'" in text for text in trained) == [False, True, True]


def test_suggested_slices_are_one_run_for_all_draws(tmp_path):
    write_plan(tmp_path)
    grid = grid_of(tmp_path, text_with("3 slices", "[0, 1, 2]"))
    draws = {}
    for trial in grid.trials:
        draws.setdefault(trial.method, []).append(trial.runs.draws)
    assert draws["suggested"] == [(0, 1, 2)]
    assert len(draws["scratch"]) > 1


def test_a_rule_with_a_budget_of_scans_is_refused_before_training(tmp_path):
    write_plan(tmp_path)
    plan, datasets = prepared(tmp_path, text_with("1 scans"))
    with pytest.raises(OptionError, match=r"choose middle applies to budgets of slices.*1 scans"):
        check_data(plan, datasets)
