"""The grid: order, what is shared, and what a changed plan keeps; leaks and impossible budgets are refused."""

from __future__ import annotations

import dataclasses
import pickle
import shutil

import nibabel
import numpy as np
import pytest

from frugalseg.dataset.budget import Budget, draw_labels
from frugalseg.engine.files import read_json, write_json
from frugalseg.errors import OptionError
from frugalseg.pretraining.methods import METHODS
from frugalseg.segmentation.presets import PRESETS
from frugalseg.studies.jobs import trial_builder as cells_module
from frugalseg.studies.jobs.datasets import check_data, resolve_datasets
from frugalseg.studies.jobs.grid import build_grid
from frugalseg.studies.jobs.job import ModelJob, PretrainJob, runtime_group, short_hash, slug
from frugalseg.studies.jobs.runner import run_job
from frugalseg.studies.plan.reader import read_plan
from tests.studies.plans import PLAN, changed, write_plan


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("grid")
    write_plan(root)
    return root


def prepared(folder, text=PLAN):
    """A plan and its data sets, prepared in folder/out."""
    plan = read_plan(write_plan(folder, text, scans=False))
    datasets = resolve_datasets(plan, folder / "out")
    for source in datasets.values():
        assert run_job(source.job, folder / "out", threads=1).state == "done"
    return plan, datasets


def grid_of(folder, text=PLAN):
    plan, datasets = prepared(folder, text)
    check_data(plan, datasets)
    return build_grid(plan, datasets, folder / "out", threads=1)


def ids(grid):
    return [job.id for job in grid.list_jobs()]


def test_a_study_stopped_early_has_all_methods_and_every_draw_of_the_first_seed(folder):
    grid = grid_of(folder, changed(("draws: [0]", "draws: [0, 1]"), ('["1 scans"]', '["1 scans", "2 scans"]')))
    runs = [(trial.seed, trial.draw) for trial in grid.trials]
    assert runs == sorted(runs)
    assert len(grid.trials) == 3 * 2 * 2 * 2
    first = grid.trials[:6]
    assert [trial.budget for trial in first] == ["1 scans"] * 3 + ["2 scans"] * 3
    assert {trial.method for trial in first} == {"scratch", "polycl", "polycl again"}


def test_methods_with_the_same_pre_training_share_it(folder):
    grid = grid_of(folder)
    jobs = grid.list_jobs()
    pretrainings = [job for job in jobs if isinstance(job, PretrainJob)]
    assert len(pretrainings) == 2  # one a seed, though two methods use it
    for job in jobs:
        if isinstance(job, ModelJob):
            assert all(ids(grid).index(need) < ids(grid).index(job.id) for need in job.needs)
    by_method = {trial.method: trial for trial in grid.trials if trial.seed == 1}
    assert by_method["polycl"].jobs[0] == by_method["polycl again"].jobs[0]
    assert by_method["polycl"].job.options.encoder == by_method["polycl"].jobs[0].run
    assert by_method["scratch"].job.needs == ()


def test_another_pre_training_is_not_shared(folder):
    text = changed(("polycl again:\n    pretrain: {method: polycl-s}", "polycl again:\n    pretrain: {method: simclr}"))
    assert len([job for job in grid_of(folder, text).list_jobs() if isinstance(job, PretrainJob)]) == 4


@pytest.mark.parametrize(
    ("old", "new", "kept"),
    [
        ("name: tiny", "name: other", 8),
        ("seeds: [0, 1]", "seeds: [0, 1, 2]", 8),
        ("lr: 0.001", "lr: 0.002", 6),  # the two models of one method
        ("finetune: {steps: 2", "finetune: {steps: 3", 2),  # the pre-trainings stay
        ("pretrain: {steps: 2", "pretrain: {steps: 3", 2),  # the models from scratch stay
        ("size: 32\n    fractions", "size: 48\n    fractions", 0),
        ("fractions: [0.2, 0.2]", "fractions: [0.2, 0.4]", 0),
    ],
)
def test_a_changed_plan_keeps_what_it_still_asks_for(folder, old, new, kept):
    before, after = ids(grid_of(folder)), ids(grid_of(folder, changed((old, new))))
    assert len(before) == 8
    assert len(set(before) & set(after)) == kept


def test_changed_test_scans_are_tested_again_without_training_again(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    before = grid_of(tmp_path / "copy")
    (tmp_path / "copy" / "away" / "labels" / "scan_06.nii.gz").unlink()
    after = grid_of(tmp_path / "copy")
    assert ids(before) == ids(after)
    assert len(after.tests["away"]) == 1
    one, other = (grid.trials[0].job.tests for grid in (before, after))
    assert one[0].evaluate.out == other[0].evaluate.out
    assert one[1].evaluate.out != other[1].evaluate.out


def test_a_corrected_test_mask_is_scored_again(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    before = grid_of(tmp_path / "copy")
    (mask,) = (tmp_path / "copy" / "away" / "labels").glob("scan_06.nii.gz")
    other = nibabel.load(mask)
    array = np.asarray(other.dataobj).copy()
    array[0, 0, 0] = 6 - array[0, 0, 0]
    nibabel.save(nibabel.Nifti1Image(array, other.affine, other.header), mask)
    after = grid_of(tmp_path / "copy")
    assert ids(before) == ids(after)
    one, other = (grid.trials[0].job.tests for grid in (before, after))
    assert one[0] == other[0]
    assert one[1].evaluate.out != other[1].evaluate.out


def test_an_index_of_scans_without_hashes_of_the_masks_is_made_again(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    before = grid_of(tmp_path / "copy")
    for listed in (tmp_path / "copy" / "out" / "stores").glob("away*.json"):
        content = read_json(listed)
        del content["format"]  # which such lists had not
        for scan in content["scans"]:
            del scan["labels_sha256"]
        write_json(listed, content)
    assert grid_of(tmp_path / "copy").trials == before.trials


@pytest.mark.parametrize("what", ["version", "preset", "recipe"])
def test_models_of_changed_code_are_new(folder, monkeypatch, what):
    before = grid_of(folder)
    if what == "version":
        monkeypatch.setattr(cells_module, "__version__", "99")
    elif what == "preset":
        monkeypatch.setitem(PRESETS, "robust", dataclasses.replace(PRESETS["robust"], clip=9.0))
    else:
        method = METHODS["polycl-s"]
        recipe = dataclasses.replace(method.recipe, tau=0.9)
        monkeypatch.setitem(METHODS, "polycl-s", dataclasses.replace(method, recipe=recipe))
    kept = set(ids(before)) & set(ids(grid_of(folder)))
    assert len(kept) == {"version": 0, "preset": 2, "recipe": 2}[what]  # the pre-trainings; the models from scratch


def test_test_sets_hold_the_patients_they_should(folder):
    plan, datasets = prepared(folder)
    grid = build_grid(plan, datasets, folder / "out", threads=1)
    held_out = set(datasets["tiny"].store.split().test)
    assert {scan.case for scan in grid.tests["held out"]} == held_out
    assert [scan.case for scan in grid.tests["away"]] == ["scan_06", "scan_07"]
    test = grid.trials[0].job.tests[1]
    assert test.make.case == test.evaluate.case == ["scan_06", "scan_07"]


def test_jobs_can_be_sent_to_another_process(folder):
    for job in grid_of(folder).list_jobs():
        assert pickle.loads(pickle.dumps(job)) == job


@pytest.mark.parametrize(
    ("old", "new", "part", "said"),
    [
        (
            '["1 scans"]',
            '["1 scans",\n  "9 scans"]',
            '"9 scans"',
            "'9 scans': there are only 4 labelled training scans",
        ),
        ('["1 scans"]', '["1 scans",\n  "500 slices"]', '"500 slices"', "there are only"),
        (
            "  away: {data: away, millimetres: false}",
            "  all: {data: tiny, patients: all}",
            "  all:",
            "5 of its 6 scans",
        ),
        (
            "{method: polycl-s}}",
            "{method: polycl-s, data: away}}",
            "polycl: {",
            "2 scans of the test set away.*\n.*trans",
        ),
        (
            "{method: polycl-s}}",
            "{method: classify, data: away}}",
            "polycl: {",
            "set away.*\n.*pre-train on other scans",
        ),
    ],
)
def test_leaks_and_impossible_budgets_are_refused_with_their_line(folder, old, new, part, said):
    text = changed((old, new))
    with pytest.raises(OptionError, match=said) as raised:
        check_data(*prepared(folder, text))
    assert f"line {1 + text[: text.index(part)].count(chr(10))}:" in raised.value.problem


def test_a_transductive_method_sees_every_scan_and_says_so(folder):
    text = changed(
        ("polycl: {pretrain: {method: polycl-s}}", "polycl: {pretrain: {method: polycl-s}, transductive: true}")
    )
    grid = grid_of(folder, text)
    trial = next(trial for trial in grid.trials if trial.method == "polycl")
    assert trial.transductive
    assert trial.job.options.transductive
    store = prepared(folder, text)[1]["tiny"].store
    assert set(store.split(trial.jobs[0].options.split).train) == set(store.patients)
    assert (
        len([job for job in grid.list_jobs() if isinstance(job, PretrainJob)]) == 4
    )  # not shared with the inductive one


def test_names():
    assert slug("held-out btcv", "5%", "d0") == "held-out-btcv.5%.d0"
    assert slug("../..") == "-"
    assert runtime_group("pretrain.moco.unet.s0-1234") == "pretrain.moco"
    assert runtime_group("scratch.unet.1-scans.d0.s0-1234") == "scratch"
    assert short_hash({"a": 1, "b": 2}) == short_hash({"b": 2, "a": 1}) != short_hash({"a": 1, "b": 3})


def places(grid, budget):
    return [(trial.runs.draws, trial.runs.seeds) for trial in grid.trials if trial.budget == budget]


def test_draws_that_select_the_same_labels_are_one_trial(folder):
    text = changed(
        ("draws: [0]", "draws: [0, 1, 2, 3, 4, 5]"),
        ('["1 scans"]', '["1 scans", "4 scans", "100%"]'),
        ("seeds: [0, 1]", "seeds: [0]"),
        ("  polycl: {pretrain: {method: polycl-s}}\n", ""),
        ("  polycl again:\n    pretrain: {method: polycl-s}\n    finetune: {lr: 0.001}\n", ""),
    )
    _, datasets = prepared(folder, text)
    grid = grid_of(folder, text)
    every = tuple(range(6))
    assert places(grid, "100%") == places(grid, "4 scans") == [(every, (0,))]  # four patients are all there are
    store = datasets["tiny"].store
    train = store.split().train
    drawn = {
        d: draw_labels(store.slices, train, Budget(1, "scans"), d, store.presence_columns).tobytes() for d in every
    }
    alike = [tuple(d for d in every if drawn[d] == labels) for labels in dict.fromkeys(drawn.values())]
    assert 1 < len(alike) < 6, "six draws of one in four scans: some are the same, not all"
    assert sorted(places(grid, "1 scans")) == sorted((draws, (0,)) for draws in alike)
    assert len([job for job in grid.list_jobs() if isinstance(job, ModelJob)]) == len(alike) + 2
    assert {trial.job.options.label_draw for trial in grid.trials if trial.budget == "100%"} == {0}


def test_a_further_draw_trains_nothing_again_where_all_labels_are_used(folder):
    one = changed(('["1 scans"]', '["100%"]'))
    assert ids(grid_of(folder, one)) == ids(grid_of(folder, one.replace("draws: [0]", "draws: [0, 1, 2]")))


def test_which_draws_are_alike_depends_on_the_slices_that_a_method_trains_on(folder):
    text = changed(
        ("draws: [0]", "draws: [0, 1, 2, 3]"), ('["1 scans"]', '["4 slices"]'), ("lr: 0.001", "middle_fraction: 0.1")
    )
    plan, datasets = prepared(folder, text)
    by_method = {trial.method: [] for trial in build_grid(plan, datasets, folder / "out", threads=1).trials}
    for trial in build_grid(plan, datasets, folder / "out", threads=1).trials:
        by_method[trial.method].append(trial.runs.draws)
    assert by_method["polycl again"] == [(0, 1, 2, 3)] * 2  # one slice of each of four patients; two seeds
    assert len(by_method["scratch"]) > 2


def test_budgets_with_the_same_labels_are_warned_about(folder):
    plan, datasets = prepared(folder, changed(('["1 scans"]', '["1 scans", "4 scans", "100%"]')))
    with pytest.warns(UserWarning, match="4 scans and 100% of tiny are the same labels"):
        check_data(plan, datasets)
