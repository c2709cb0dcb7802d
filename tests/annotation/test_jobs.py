"""Jobs: commands in processes of their own, whose masks are taken over at the end, and never over a person's."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from frugalseg.annotation import job_kinds
from frugalseg.annotation.job_runner import read_progress
from frugalseg.annotation.job_table import Job, JobError
from frugalseg.annotation.job_work import JobContext, JobWork, Step
from frugalseg.annotation.messages import JobOptions
from frugalseg.annotation.reviews import read_expected_dice, read_reviews
from frugalseg.annotation.scan_jobs import PropagateWork
from frugalseg.annotation.slices import Stroke
from frugalseg.imaging.read import read_labels
from tests.annotation.session import disc, open_client, open_session, put, read_mask, wait_for
from tests.scans import write_cohort

SHAPE = (32, 32)


class FakeWork(JobWork):
    """Runs frugalseg with these words, and draws one slice at its end."""

    def __init__(self, *words: str) -> None:
        self.words = list(words)

    def check(self, context: JobContext, case: str | None, options: JobOptions) -> None:
        """Always possible."""

    def steps(self, context: JobContext, job: Job) -> list[Step]:
        """One step."""
        return [Step(self.words, "working")]

    def collect(self, context: JobContext, job: Job) -> str:
        """Draw slice 3."""
        made = Stroke(disc(SHAPE), "propagate", f"job {job.id}", source="propagated")
        changed = context.slices.fill("scan_00", [(3, made)], (None, "propagated"))
        context.on_masks("scan_00", changed)
        return "drawn"


def give(monkeypatch, work):
    monkeypatch.setattr(job_kinds, "JOB_KINDS", {**job_kinds.JOB_KINDS, "propagate": work})
    monkeypatch.setattr("frugalseg.annotation.job_runner.JOB_KINDS", job_kinds.JOB_KINDS)


def start(client, kind="propagate", case="scan_00", **options):
    return client.post("/api/jobs", json={"kind": kind, "case": case, "options": options})


def wait_until_ended(client, number=1):
    def ended():
        job = next(job for job in client.get("/api/jobs").json() if job["id"] == number)
        return job if job["state"] not in ("queued", "running") else None

    return wait_for(ended)


def test_a_job_runs_and_its_masks_are_taken_over(client, session, monkeypatch):
    give(monkeypatch, FakeWork("--version"))
    assert start(client).json()["state"] in ("queued", "running")
    job = wait_until_ended(client)
    assert (job["state"], job["progress"], job["message"]) == ("done", 1.0, "drawn")
    assert job["log"][0] == "$ frugalseg --version"
    assert job["log"][1].startswith("frugalseg ")
    np.testing.assert_array_equal(read_mask(client, "scan_00", 3, SHAPE), disc(SHAPE))


def test_a_failed_job_says_why_and_changes_nothing(client, monkeypatch):
    give(monkeypatch, FakeWork("study", "status", "no-such-folder"))
    put(client, "scan_00", 5, disc(SHAPE), 0)
    start(client)
    job = wait_until_ended(client)
    assert job["state"] == "failed"
    assert "no-such-folder" in job["message"]
    assert job["hint"]
    np.testing.assert_array_equal(read_mask(client, "scan_00", 5, SHAPE), disc(SHAPE))
    assert not read_mask(client, "scan_00", 3, SHAPE).any()


def test_a_failed_job_can_be_resumed(client, monkeypatch):
    give(monkeypatch, FakeWork("nonsense"))
    start(client)
    assert "there is no command `nonsense`" in wait_until_ended(client)["message"]
    give(monkeypatch, FakeWork("--version"))
    assert client.post("/api/jobs/1/resume").status_code == 200
    assert wait_until_ended(client)["state"] == "done"
    assert client.post("/api/jobs/1/resume").status_code == 409


SLEEP = ("demo", "--phantoms", "500", "--out")


def test_a_cancelled_job_ends_and_changes_nothing(client, monkeypatch, tmp_path):
    give(monkeypatch, FakeWork(*SLEEP, str(tmp_path / "demo")))
    start(client)
    wait_for(lambda: client.get("/api/jobs").json()[0]["state"] == "running")
    assert start(client).status_code == 409  # the same once more
    client.post("/api/jobs/1/cancel")
    assert wait_until_ended(client)["state"] == "cancelled"
    assert not read_mask(client, "scan_00", 3, SHAPE).any()
    assert client.post("/api/jobs/1/cancel").status_code == 409
    assert client.post("/api/jobs/9/cancel").status_code == 409


def test_one_job_at_a_time_the_others_wait(client, monkeypatch, tmp_path):
    give(monkeypatch, FakeWork(*SLEEP, str(tmp_path / "demo")))
    start(client)
    start(client, case="scan_01")
    wait_for(lambda: client.get("/api/jobs").json()[1]["state"] == "running")
    assert client.get("/api/jobs").json()[0]["state"] == "queued"
    client.post("/api/jobs/2/cancel")
    assert wait_until_ended(client, 2)["state"] == "cancelled"
    client.post("/api/jobs/1/cancel")
    assert wait_until_ended(client, 1)["state"] == "cancelled"


def test_jobs_of_an_ended_server_are_interrupted_and_continue(tmp_path, monkeypatch):
    images, _ = write_cohort(tmp_path, 1)
    give(monkeypatch, FakeWork(*SLEEP, str(tmp_path / "demo")))
    with open_session(images, tmp_path / "out") as session, open_client(session) as client:
        start(client)
        wait_for(lambda: client.get("/api/jobs").json()[0]["state"] == "running")
    give(monkeypatch, FakeWork("--version"))
    with open_session(images, tmp_path / "out") as session, open_client(session) as client:
        job = client.get("/api/jobs").json()[0]
        assert job["state"] == "interrupted"
        client.post("/api/jobs/1/resume")
        assert wait_until_ended(client)["state"] == "done"


def test_a_job_that_cannot_be_done_says_what_is_missing(client):
    assert "outline one slice first" in start(client).json()["hint"]
    put(client, "scan_00", 5, np.zeros(SHAPE), 0, "eraser")  # outlined, but empty
    assert start(client).status_code == 409
    assert "propagate or train first" in start(client, "refine").json()["hint"]
    assert "outline a slice first" in start(client, "train", None).json()["hint"]
    assert "train first" in start(client, "predict", None).json()["hint"]
    assert start(client, "nonsense").status_code == 422
    assert start(client, "propagate", None).status_code == 409


def test_propagation_gets_only_what_a_person_drew_and_stops_at_empty_outlines(session, client):
    for z in (4, 6):
        put(client, "scan_00", z, disc(SHAPE), 0)
    for z in (1, 9):
        put(client, "scan_00", z, np.zeros(SHAPE), 0, "eraser")
    doubtful = Stroke(disc(SHAPE), "predict", "job 0", source="predicted")
    session.slices.fill("scan_00", [(7, doubtful)], (None,))
    job = session.jobs.add("propagate", "scan_00", JobOptions())
    (step,) = PropagateWork().steps(session.context, job)
    words = dict(zip(step.words, step.words[1:], strict=False))
    assert words["--slices"] == "4,6"
    assert words["--slice-range"] == "2,8"
    assert words["--target"] == "liver=6"
    given = read_labels(next(job.folder.glob("given/*"))).array
    assert np.flatnonzero(given.any(axis=(0, 1))).tolist() == [4, 6]


def test_propagation_between_empty_outlines_next_to_the_drawn_slice_is_refused(session, client):
    put(client, "scan_00", 4, disc(SHAPE), 0)
    for z in (3, 5):
        put(client, "scan_00", z, np.zeros(SHAPE), 0, "eraser")
    job = session.jobs.add("propagate", "scan_00", JobOptions())
    with pytest.raises(JobError, match="outlined as empty"):
        PropagateWork().steps(session.context, job)


def test_a_result_replaces_only_what_no_person_drew(session, client, tmp_path):
    from frugalseg.imaging.write import write_mask

    put(client, "scan_00", 4, disc(SHAPE, radius=0.1), 0)
    client.post("/api/cases/scan_00/slices/5/accept")
    display = session.open("scan_00")
    everywhere = display.mask_volume((z, disc(SHAPE)) for z in range(12))
    write_mask(everywhere, tmp_path / "made.nii.gz")
    changed = session.context.take_over(
        *("scan_00", tmp_path / "made.nii.gz"),
        lambda _, plane: Stroke(plane, "propagate", "job 1", source="propagated"),
        (None, "propagated", "predicted"),
    )
    assert changed == [0, 1, 2, 3, *range(6, 12)]
    np.testing.assert_array_equal(read_mask(client, "scan_00", 4, SHAPE), disc(SHAPE, radius=0.1))
    assert not read_mask(client, "scan_00", 5, SHAPE).any()
    np.testing.assert_array_equal(read_mask(client, "scan_00", 8, SHAPE), disc(SHAPE))
    assert client.get("/api/state").json()["cases"][0]["state"] == "propagated"
    accepted = client.post("/api/cases/scan_00/accept").json()
    assert {one["source"] for one in accepted["slices"]} == {"reviewed", "outlined"}
    assert client.get("/api/state").json()["cases"][0]["state"] == "reviewed"


def test_the_least_certain_case_comes_first(session, client):
    for case, confidence in (("scan_00", 0.9), ("scan_01", 0.3)):
        session.open(case)
        made = Stroke(disc(SHAPE), "predict", "job 1", source="predicted", confidence=confidence)
        session.slices.fill(case, [(5, made)], (None,))
    state = client.get("/api/state").json()
    assert {case["id"]: case["rank"] for case in state["cases"]} == {"scan_01": 0, "scan_00": 1}
    assert (state["suggestion"]["case"], state["suggestion"]["slice"]) == ("scan_01", 5)


def test_reviews_are_the_lowest_confidence_and_all_reasons(tmp_path):
    (tmp_path / "a.slices.csv").write_text(
        "slice,organ,confidence,review\n3,liver,0.9,\n3,spleen,0.4,confidence below 0.7\n4,liver,0.8,\n"
    )
    assert read_reviews(tmp_path / "a.slices.csv") == {3: (0.4, "confidence below 0.7"), 4: (0.8, "")}
    assert read_reviews(tmp_path / "none") == {}
    (tmp_path / "b.slices.csv").write_text(
        "case,slice,organ,confidence,expected_dice\nb,3,liver,,\nb,4,liver,0.7,0.8\n"
    )
    assert read_reviews(tmp_path / "b.slices.csv") == {3: (None, ""), 4: (0.7, "")}


def test_expected_dice_is_shown_only_where_it_is_promised(tmp_path):
    table = tmp_path / "confidence.csv"
    assert read_expected_dice(table) is None
    table.write_text("case,organ,confidence,expected_dice,lower_bound\na,liver,0.9,0.91,\nb,liver,0.7,0.81,\n")
    assert read_expected_dice(table) is None  # too few validation patients for a bound
    table.write_text("case,organ,confidence,expected_dice,lower_bound\na,liver,0.9,0.91,0.8\nb,liver,0.7,0.81,0.6\n")
    expected = read_expected_dice(table)
    assert expected is not None
    assert (expected.estimate, expected.low, expected.high) == (0.86, 0.7, None)


def test_progress_is_read_from_what_a_command_prints():
    from frugalseg.engine.progress import Work

    outer, inner = Work("propagating", 12, "scans", completed=3), Work("scan_03", 40, "slices", completed=8)
    lines = ["$ frugalseg propagate", "something", f"{outer.format_line()}; {inner.format_line()}", "more"]
    share, text = read_progress(lines, "propagating")
    assert share == pytest.approx((3 + 8 / 40) / 12)
    assert text == lines[2]
    assert read_progress([*lines, "$ frugalseg predict"], "predicting") == (0.0, "predicting")
    training = Work("training", 300, "steps", completed=150)
    assert read_progress([training.format_line()], "")[0] == 0.5


def test_a_job_ends_when_its_server_is_killed(tmp_path):
    """The child watches a pipe that only the server holds."""
    import subprocess

    command = [sys.executable, "-m", "frugalseg.annotation.child", *SLEEP, str(tmp_path / "demo")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    wait_for(lambda: (tmp_path / "demo").is_dir())
    assert process.poll() is None
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(30) != 0


@pytest.mark.parametrize(("series", "words"), [([], []), (["portal", "thinnest"], ["--series", "portal", "thinnest"])])
def test_jobs_read_the_same_series_as_the_page(series, words):
    context = SimpleNamespace(images=Path("scans"), options=SimpleNamespace(series=series))
    assert JobContext.image_words(context) == ["--images", "scans", *words]
