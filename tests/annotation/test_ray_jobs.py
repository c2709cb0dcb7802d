"""Jobs of the page on a Ray cluster of this machine: as in processes of the server."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from frugalseg.annotation.ray_launcher import RayLauncher
from frugalseg.annotation.serve import annotate
from frugalseg.errors import RunError
from frugalseg.options import AnnotateOptions
from tests.annotation.session import open_client, open_session, read_mask, wait_for
from tests.annotation.test_jobs import SHAPE, SLEEP, FakeWork, give, start, wait_until_ended
from tests.scans import write_cohort


@pytest.fixture(scope="module")
def launcher() -> Iterator[RayLauncher]:
    pytest.importorskip("ray", reason="Ray is not installed (pip install 'frugalseg[cluster]')")
    launcher = RayLauncher("local", 1)
    yield launcher
    launcher.close()


@pytest.fixture
def client(launcher, tmp_path):
    images, _ = write_cohort(tmp_path, 2)
    with open_session(images, tmp_path / "out", launcher=launcher) as session, open_client(session) as client:
        yield client


def test_a_job_runs_on_the_cluster_and_its_masks_are_taken_over(client, monkeypatch):
    give(monkeypatch, FakeWork("--version"))
    start(client)
    job = wait_until_ended(client)
    assert (job["state"], job["message"]) == ("done", "drawn"), job
    assert job["log"][1].startswith("frugalseg ")
    assert read_mask(client, "scan_00", 3, SHAPE).any()


def test_a_job_that_fails_on_the_cluster_says_why(client, monkeypatch):
    give(monkeypatch, FakeWork("study", "status", "no-such-folder"))
    start(client)
    job = wait_until_ended(client)
    assert job["state"] == "failed"
    assert "no-such-folder" in job["message"]
    assert not read_mask(client, "scan_00", 3, SHAPE).any()


def test_a_job_on_the_cluster_reports_its_progress_and_is_cancelled(client, monkeypatch, tmp_path):
    give(monkeypatch, FakeWork(*SLEEP, str(tmp_path / "demo")))
    start(client)
    wait_for(lambda: client.get("/api/jobs").json()[0]["progress"] > 0)
    assert "of 500 scans" in client.get("/api/jobs").json()[0]["message"]
    client.post("/api/jobs/1/cancel")
    job = wait_until_ended(client)
    assert job["state"] == "cancelled", job
    made = len(list((tmp_path / "demo").rglob("*.nii.gz")))
    give(monkeypatch, FakeWork("--version"))
    client.post("/api/jobs/1/resume")  # needs the core that the cancelled job has released
    assert wait_until_ended(client)["state"] == "done"
    assert len(list((tmp_path / "demo").rglob("*.nii.gz"))) == made, "its process has ended, too"


def test_a_task_that_the_cluster_loses_fails_with_its_cause(client, monkeypatch, tmp_path):
    give(monkeypatch, FakeWork(*SLEEP, str(tmp_path / "demo")))
    start(client)
    wait_for((tmp_path / "demo").is_dir)
    os.kill(find_parent(str(tmp_path / "demo")), signal.SIGKILL)
    job = wait_until_ended(client)
    assert (job["state"], job["hint"]) == ("failed", "see `ray status`, then resume")
    assert "the task was lost" in job["message"]


def find_parent(word: str) -> int:
    """The process that has started the one with this word in its command line."""
    listed = subprocess.run(["ps", "-ewwo", "ppid,args"], capture_output=True, text=True, check=True).stdout
    return next(int(line.split()[0]) for line in listed.splitlines()[1:] if word in line.split()[1:])


def test_a_cluster_that_does_not_answer_is_told_at_the_start(tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed (pip install 'frugalseg[cluster]')")
    images, _ = write_cohort(tmp_path, 1)
    with pytest.raises(RunError, match=r"--ray 127\.0\.0\.1:1: no cluster answers"):
        annotate(AnnotateOptions(images=images, out=tmp_path / "out", port=0, no_browser=True, ray="127.0.0.1:1"))
