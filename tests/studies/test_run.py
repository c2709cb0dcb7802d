"""Studies from end to end on tiny scans: crashes, kills, resumption, Ray, and what is told about it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pandas as pd
import pytest

from frugalseg.cli import main
from frugalseg.engine.files import read_json, write_json
from frugalseg.errors import OptionError, RunError
from frugalseg.options import ReportOptions, StudyStatusOptions
from frugalseg.records.study import JobState
from frugalseg.studies.jobs import state
from frugalseg.studies.jobs.ray_workers import RayWorkers
from frugalseg.studies.jobs.state import lock_study, read_state, write_state
from frugalseg.studies.report.results import collect_results
from frugalseg.studies.run import report, study
from frugalseg.studies.status import study_status
from tests.cluster.nodes import two_nodes
from tests.studies.plans import PLAN, changed, options, write_plan


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The tiny plan and its study, run to the end."""
    root = tmp_path_factory.mktemp("study")
    study(options(write_plan(root), root / "out", jobs=2))
    return root


def cases(out: Path) -> pd.DataFrame:
    return pd.read_csv(out / "cases.csv")


def finished(out: Path) -> dict[str, int]:
    """Finished run → when its model was written."""
    return {path.parent.name: path.stat().st_mtime_ns for path in out.glob("*/*/model.json")}


def test_every_model_is_tested_on_every_set(folder):
    table = cases(folder / "out")
    assert len(table) == 6 * (1 + 2)  # 3 methods, 2 seeds; 1 and 2 scans
    assert set(table["test"]) == {"held out", "away"}
    assert set(table["patient"]) == set(table["case"])
    assert table["dice"].between(0, 1).all()


def test_trials_list_annotation_and_cost_of_each_model(folder):
    results = collect_results(folder / "out")
    trials = results.trials.set_index(["method", "seed"])
    assert (trials["state"] == "done").all()
    assert (trials["mask_scans"] == 1).all()
    assert (trials["validation_scans"] == 1).all()
    assert (trials["validation_masks"] == 6).all()  # a scan of six slices
    assert (trials["semi"] == "none").all()
    assert (trials.loc["scratch", "pretrain_scans"] == 0).all()
    assert (trials.loc["polycl", "pretrain_scans"] == 4).all()
    assert (trials["organ_present_labels"] == 0).all()
    assert (trials["finetune_minutes"] > 0).all()
    assert ((trials["unlearned"] == "liver") == (trials["validation_dice"] == 0)).all()
    assert trials.loc[("polycl", 0), "pretrain_minutes"] > 0 == trials.loc[("scratch", 0), "pretrain_minutes"]
    assert trials["device"].str.startswith("CPU, 1 thread,").all()
    assert [(t.name, t.in_domain, t.millimetres, t.scans) for t in results.tests] == [
        ("held out", True, True, 1),
        ("away", False, False, 2),
    ]
    assert (results.methods, results.budgets, results.baseline) == (
        ("scratch", "polycl", "polycl again"),
        ("1 scan",),
        "scratch",
    )


def test_seeds_and_methods_give_different_models_and_checkpoints_are_cleared_away(folder):
    models = [path.read_bytes() for path in (folder / "out" / "finetune").glob("*/model.safetensors")]
    assert len(models) == len(set(models)) == 6
    assert not list((folder / "out").rglob("*.ckpt"))
    assert len(list((folder / "out" / "pretrain").iterdir())) == 2


def test_a_second_run_does_nothing_again(folder):
    before, table = finished(folder / "out"), (folder / "out" / "cases.csv").read_bytes()
    assert study(options(folder / "plan.yaml", folder / "out")) == folder / "out" / "report.html"
    assert finished(folder / "out") == before
    assert (folder / "out" / "cases.csv").read_bytes() == table


def test_a_study_with_files_of_older_formats_resumes(folder, tmp_path):
    """Its files had no format, trials were cells, jobs at a time at_once, tables a plain list, trials.csv cells.csv."""
    out = tmp_path / "out"
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    for path in [*(out / "jobs").glob("*.json"), out / "grid.json", out / "study.json", out / "tables" / "tables.json"]:
        content = {key: value for key, value in read_json(path).items() if key != "format"}
        if path.name == "grid.json":
            content["cells"] = content.pop("trials")
            for cell in content["cells"]:
                cell["guided"] = cell.pop("uses_test_references")
                cell |= {"folder": None, "semi": "none", "pretrain": None}
                (model,) = cell.pop("models") or ({},)
                cell |= model
        if path.name == "study.json":
            content["at_once"] = content.pop("jobs")
        write_json(path, content.get("tables", content))
    (out / "trials.csv").rename(out / "cells.csv")
    before = finished(out)
    assert "6 done of 6 runs" in study_status(StudyStatusOptions(folder=out)).text
    study(options(tmp_path / "plan.yaml", out))
    assert finished(out) == before
    assert read_json(out / "grid.json") == read_json(folder / "out" / "grid.json")
    assert not (out / "cells.csv").exists()
    assert len(pd.read_csv(out / "trials.csv")) == 6


def test_status_and_report_of_a_finished_study(folder, capsys):
    text = study_status(StudyStatusOptions(folder=folder / "out")).text
    assert "6 done of 6 runs" in text
    assert "2 / 2" in text
    assert "not running; rerun" not in text
    (folder / "out" / "report.html").unlink()
    assert main(["report", str(folder / "out")]) == 0
    assert capsys.readouterr().out.endswith("report.html\n")
    assert report(ReportOptions(folder=folder / "out")).is_file()


def test_status_with_read_only_access(folder, tmp_path, monkeypatch):
    shutil.copytree(folder / "out", tmp_path / "out")
    trial = next(trial for trial in json.loads((tmp_path / "out" / "grid.json").read_text())["trials"])
    (tmp_path / "out" / trial["models"][0]["folder"] / "model.json").unlink()
    write_state(tmp_path / "out", trial["id"], JobState("running", started=time.time()))

    def refuse(*_given, **_more):
        raise PermissionError(13, "Permission denied")

    assert "1 waiting" in study_status(StudyStatusOptions(folder=tmp_path / "out")).text
    monkeypatch.setattr(state, "FileLock", refuse)
    told = study_status(StudyStatusOptions(folder=tmp_path / "out")).text
    assert "5 done, 1 running of 6 runs" in told
    assert f"running: {trial['id']}" in told
    assert "whether the study is running is unknown" in told
    assert "whether" not in study_status(StudyStatusOptions(folder=folder / "out")).text  # it is finished


def test_a_raw_data_set_as_labels_and_a_case_called_na(tmp_path):
    plan = write_plan(
        tmp_path,
        changed(
            ("away/images, labels: away/labels", "away/imagesTr, labels: away"),
            ("seeds: [0, 1]", "seeds: [0]"),
        ),
    )
    away = tmp_path / "away"
    for old, new in (("images", "imagesTr"), ("labels", "labelsTr")):
        (away / old).rename(away / new)
        (away / new / "scan_06.nii.gz").rename(away / new / "NA.nii.gz")
    study(options(plan, tmp_path / "out", only=["method=scratch"]))
    measured = collect_results(tmp_path / "out").cases
    assert measured[measured["test"] == "away"]["case"].tolist() == ["NA", "scan_07"]
    assert measured["patient"].tolist() == measured["case"].tolist()
    assert measured["dice"].dtype == measured["hd95_mm"].dtype == float


def test_a_part_of_the_grid(folder, tmp_path):
    only = ["method=scratch", "method=polycl", "seed=1"]
    study(options(folder / "plan.yaml", tmp_path / "part", jobs=2, only=only))
    trials = collect_results(tmp_path / "part").trials
    done = trials[trials["state"] == "done"]
    assert set(zip(done["method"], done["seed"], strict=True)) == {("scratch", 1), ("polycl", 1)}
    assert set(trials["state"]) == {"done", "waiting"}
    whole = cases(folder / "out")
    whole = whole[(whole["seed"] == 1) & (whole["method"] != "polycl again")]
    pd.testing.assert_frame_equal(cases(tmp_path / "part"), whole.reset_index(drop=True))  # in another company
    assert "not running; rerun" in study_status(StudyStatusOptions(folder=tmp_path / "part")).text


def test_draws_that_select_the_same_labels_are_trained_and_reported_once(folder, tmp_path):
    text = changed(
        ('["1 scans"]', '["100%"]'),
        ("seeds: [0, 1]", "seeds: [0]"),
        ("draws: [0]", "draws: [0, 1, 2]"),
        ("  polycl again:\n    pretrain: {method: polycl-s}\n    finetune: {lr: 0.001}\n", ""),
    )
    plan, out = write_plan(folder, text, scans=False), tmp_path / "out"
    study(options(plan, out, only=["method=scratch", "draw=1"]))  # one of those that it stands for
    (first,) = finished(out).items()
    assert "1 done, 1 waiting of 2 runs" in study_status(StudyStatusOptions(folder=out)).text
    study(options(plan, out))
    assert first in finished(out).items()
    assert len(finished(out)) == 3  # two models and an encoder
    table = pd.read_csv(out / "trials.csv")
    assert table["draws"].tolist() == ["0 1 2"] * 2
    assert len(cases(out)) == 2 * (1 + 2)
    status = study_status(StudyStatusOptions(folder=out)).text
    assert "2 done of 2 runs" in status
    assert "1 / 1" in status
    page = (out / "report.html").read_text()
    assert "2 of 2 runs finished" in page
    assert "At 100%, draws 0, 1, 2 select the same labels, so they are one run for each seed." in page
    (compared,) = (out / "tables").glob("comparison-held-out*dice.csv")
    assert pd.read_csv(compared)[["runs", "runs_planned"]].values.tolist() == [[1, 1]]
    write_plan(folder, PLAN, scans=False)


@pytest.mark.parametrize(
    ("only", "said"),
    [("methd=scratch", "no known key"), ("method=scrach", "no such method"), ("seed=9", "seed")],
)
def test_an_unknown_part_of_the_grid(folder, tmp_path, only, said):
    with pytest.raises(OptionError, match=said):
        study(options(folder / "plan.yaml", tmp_path / "out", only=[only]))
    assert not (tmp_path / "out").exists()


def test_a_folder_with_other_content_is_refused_unchanged(folder):
    before = (folder / "plan.yaml").read_text()
    for out in (folder, folder / "images", folder / "plan.yaml"):
        with pytest.raises(RunError, match="not the folder of a study|is a file"):
            study(options(folder / "plan.yaml", out))
    assert (folder / "plan.yaml").read_text() == before


def test_a_plan_that_is_refused_leaves_the_study_as_it_was(folder, tmp_path):
    out = folder / "out"
    kept = {name: (out / name).read_bytes() for name in ("plan.yaml", "grid.json", "study.json", "trials.csv")}
    text = changed(("{data: tiny}", "{data: tiny, patients: all}"))
    refused = tmp_path / "leaking.yaml"
    refused.write_text(text.replace("images: ", f"images: {folder}/").replace("labels: ", f"labels: {folder}/"))
    with pytest.raises(OptionError, match="models are trained or selected on"):
        study(options(refused, out))
    assert {name: (out / name).read_bytes() for name in kept} == kept
    new = tmp_path / "new"
    with pytest.raises(OptionError, match="models are trained or selected on"):
        study(options(refused, new))
    assert not (new / "plan.yaml").exists()
    study(options(folder / "plan.yaml", new, only=["method=scratch", "seed=0"]))  # the folder is a study's all the same
    assert (new / "plan.yaml").is_file()


def test_only_one_at_a_time(folder):
    with lock_study(folder / "out"), pytest.raises(RunError, match="another process is working"):
        study(options(folder / "plan.yaml", folder / "out"))


def test_a_lock_without_results_leaves_no_folder(tmp_path):
    for name, written in (("empty", False), ("used", True)):
        with lock_study(tmp_path / name):
            if written:
                (tmp_path / name / "study.json").touch()
    (tmp_path / "before").mkdir()
    with lock_study(tmp_path / "before"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"used", "before"}


def test_a_failing_job_does_not_stop_the_others_and_is_retried(tmp_path):
    """One pre-training and one fine-tuning diverge; what needs neither is done."""
    plan = write_plan(
        tmp_path,
        changed(
            ("polycl: {pretrain: {method: polycl-s}}", "polycl: {pretrain: {method: polycl-s, lr: 1e30}}"),
            ("lr: 0.001", "lr: 1e30"),
            ("seeds: [0, 1]", "seeds: [0]"),
            ("{steps: 2", "{steps: 4"),
        ),
    )
    out = tmp_path / "out"
    with pytest.raises(RunError, match="3 of 5 jobs failed"):
        study(options(plan, out, jobs=2))
    trials = collect_results(out).trials.set_index("method")
    assert trials["state"].to_dict() == {"scratch": "done", "polycl": "failed", "polycl again": "failed"}
    assert "the loss is" in trials.loc["polycl again", "error"]
    assert "it needs pretrain.polycl-s" in trials.loc["polycl", "error"]
    assert "which failed: the loss is" in trials.loc["polycl", "error"]
    assert (trials["error"] == "").tolist() == [True, False, False]
    text = study_status(StudyStatusOptions(folder=out)).text
    assert "1 done, 2 failed of 3 runs" in text
    assert text.count("failed: ") == 4  # two pre-trainings and models, one reason named twice
    before = finished(out)
    with pytest.raises(RunError, match="3 of 5 jobs failed"):
        study(options(plan, out))
    assert finished(out) == before
    assert next((out / "logs").glob("polycl-again*.log")).read_text().count("--- ") == 2  # tried again
    assert next((out / "logs").glob("scratch*.log")).read_text().count("--- ") == 1


def test_data_that_cannot_be_read_end_the_study_before_any_training(tmp_path):
    plan = write_plan(tmp_path)
    for scan in (tmp_path / "away" / "images").iterdir():
        scan.write_bytes(scan.read_bytes()[:200])
    with pytest.raises(OptionError, match="line 9: data.away: cannot be prepared: 2 of 2 scans cannot be prepared"):
        study(options(plan, tmp_path / "out", jobs=2))
    assert not (tmp_path / "out" / "finetune").exists()


@pytest.mark.parametrize(
    ("pattern", "said"),
    [("(Q.+)", "finds no patient in the case id 'scan_06'"), ("(", "is not a valid regular expression")],
)
def test_a_patient_pattern_that_fits_no_scan_of_a_test_set(tmp_path, pattern, said):
    plan = write_plan(
        tmp_path, changed(("labels: away/labels,", f"labels: away/labels, patient_pattern: '{pattern}',"))
    )
    with pytest.raises(OptionError, match=f"line 9: data.away: cannot be prepared: patient_pattern .* {said}"):
        study(options(plan, tmp_path / "out"))


def start(plan: Path, out: Path, *flags: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "frugalseg", "study", str(plan), "--out", str(out), "--threads", "1", *flags]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def wait_for(condition, process, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def jobs_running(out: Path) -> list[str]:
    return [path.stem for path in (out / "jobs").glob("*.json") if read_state(out, path.stem).state == "running"]


LONGER = (("finetune: {steps: 2", "finetune: {steps: 20, validate_every: 1"), ("seeds: [0, 1]", "seeds: [0]"))


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """A study of longer trainings that nothing disturbed."""
    root = tmp_path_factory.mktemp("unbroken")
    study(options(write_plan(root, changed(*LONGER)), root / "out", jobs=2))
    return root


@pytest.mark.parametrize("how", ["whole group", "the study alone", "Ctrl-C", "SIGTERM to the group"])
def test_a_killed_study_resumes(unbroken, tmp_path, how):
    out = tmp_path / "out"
    process = start(unbroken / "plan.yaml", out, "--jobs", "2")

    def half_way():
        steps = [path.read_text().count("\n") for path in out.glob("finetune/*/metrics.jsonl")]
        return len(finished(out)) >= 2 and any(0 < n < 15 for n in steps)

    wait_for(half_way, process)
    told = study_status(StudyStatusOptions(folder=out)).text
    assert "running: " in told
    assert " left" in told
    kept = finished(out)
    if how == "whole group":
        os.killpg(process.pid, signal.SIGKILL)
    elif how == "the study alone":
        process.kill()
    elif how == "SIGTERM to the group":  # as `timeout` does; it reaches the process that jobs are forked from
        os.killpg(process.pid, signal.SIGTERM)
    else:
        process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=120)[0]
    if how in {"Ctrl-C", "SIGTERM to the group"}:
        assert process.returncode == 130, output
        assert not jobs_running(out)
        told = [json.loads(path.read_text()) for path in (out / "jobs").glob("*.json")]
        assert [job["state"] for job in told if "the checkpoint is written" in job["error"]] == ["interrupted"]
    assert "not running; rerun" in study_status(StudyStatusOptions(folder=out)).text
    study(options(unbroken / "plan.yaml", out, jobs=2))
    assert kept.items() <= finished(out).items()
    pd.testing.assert_frame_equal(cases(out), cases(unbroken / "out"))


def test_a_crashed_process_is_a_failed_job(unbroken, tmp_path):
    out = tmp_path / "out"
    process = start(unbroken / "plan.yaml", out, "--jobs", "1", "--only", "method=scratch")
    wait_for(lambda: list(out.glob("finetune/*/metrics.jsonl")), process)
    victim = next(pid for pid in children(process.pid) if b"forkserver" in command_line(pid) and not children(pid))
    os.kill(victim, signal.SIGSEGV)
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 1
    assert "crashed (SIGSEGV)" in output
    assert "crashed (SIGSEGV)" in study_status(StudyStatusOptions(folder=out)).text
    assert "Fatal Python error" in next((out / "logs").glob("scratch*")).read_text()


def children(pid: int) -> list[int]:
    """All descendants of a process."""
    listed = subprocess.run(["ps", "-eo", "pid,ppid"], capture_output=True, text=True, check=True).stdout
    pairs = [tuple(map(int, line.split())) for line in listed.splitlines()[1:]]
    direct = [child for child, parent in pairs if parent == pid]
    return [*direct, *(grandchild for child in direct for grandchild in children(child))]


def command_line(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def test_ray_gives_the_same_figures_when_a_node_is_killed_in_the_middle(folder, tmp_path, monkeypatch, capsys):
    only = ["seed=0", "method=scratch", "method=polycl"]
    start = RayWorkers.start

    def start_and_kill(workers, job):
        start(workers, job)
        if job.id.startswith("pretrain") and nodes.count() == 2:
            threading.Timer(2.0, nodes.kill_one).start()  # while it runs

    with two_nodes() as nodes:
        monkeypatch.setattr(RayWorkers, "start", start_and_kill)
        study(options(folder / "plan.yaml", tmp_path / "out", jobs=2, ray="auto", only=only))
        assert nodes.count() == 1
    whole = cases(folder / "out")
    whole = whole[(whole["seed"] == 0) & (whole["method"] != "polycl again")]
    pd.testing.assert_frame_equal(cases(tmp_path / "out"), whole.reset_index(drop=True))


def test_a_wrong_plan_ends_at_once(folder, tmp_path, capsys):
    plan = write_plan(tmp_path, PLAN.replace("train: tiny", "train: tine"))
    assert main(["study", str(plan), "--out", str(tmp_path / "out")]) == 1
    assert (
        f"line {1 + PLAN[: PLAN.index('train:')].count(chr(10))}: train: there is no data set"
        in capsys.readouterr().err
    )
    assert not (tmp_path / "out").exists()
    assert main(["study", "status", str(tmp_path)]) == 1
    assert "holds no study" in capsys.readouterr().err
