"""Jobs that end in other ways than done."""

from __future__ import annotations

import os
import signal
from dataclasses import replace

import pytest

from frugalseg.engine.files import MODEL_FILE
from frugalseg.errors import InterruptedRunError
from frugalseg.options import FinetuneOptions
from frugalseg.records.study import JobState
from frugalseg.studies.jobs.job import EvaluatedJob, Job, ModelJob
from frugalseg.studies.jobs.scheduler import run_jobs
from frugalseg.studies.jobs.state import read_state, write_state
from frugalseg.studies.jobs.workers import Workers
from frugalseg.studies.trainings.finetune import Finetune


class Told(Workers):
    """Jobs that end at once, in the state they are told to."""

    def __init__(self, folder, states):
        super().__init__(folder, at_once=1, threads=1)
        self.states, self.now, self.started = states, [], []

    def start(self, job):
        self.now.append(job.id)
        self.started.append(job.id)

    def collect_ended(self):
        gone, self.now = self.now, []
        for job in gone:
            write_state(self.folder, job, self.states.get(job, JobState("done")))
        return gone

    def list_running(self):
        return list(self.now)

    def stop(self, at_once):
        self._stopping = True

    def close(self):
        pass


JOBS = [Job(id="pretrain"), Job(id="model", needs=("pretrain",)), Job(id="alone")]
INTERRUPTED = JobState("interrupted", error="stopped\n  → run it again", log="logs/x.log")


@pytest.mark.parametrize("state", [INTERRUPTED, JobState("running"), JobState()], ids=lambda s: s.state)
def test_a_job_interrupted_alone_is_a_failure_and_fails_what_needs_it(tmp_path, state):
    workers = Told(tmp_path, {"pretrain": state})

    def watch(progress, running):
        assert workers.started.count("pretrain") == 1
        watch.calls += 1
        assert watch.calls < 20, "the schedule hangs"

    watch.calls = 0
    progress = run_jobs(JOBS, tmp_path, workers, watch)
    assert set(progress.failed_jobs()) == {"pretrain", "model"}
    assert progress.ended["pretrain"].error.startswith(f"{state.state} from outside")
    assert read_state(tmp_path, "pretrain").state == "failed"
    assert read_state(tmp_path, "model").error == f"it needs pretrain, which failed: {state.state} from outside" + (
        ": stopped" if state.error else ""
    )
    assert workers.started == ["pretrain", "alone"]


def test_a_trial_interrupted_alone_is_no_success(tmp_path):
    progress = run_jobs(JOBS, tmp_path, Told(tmp_path, {"alone": INTERRUPTED}), lambda *_: None)
    assert set(progress.failed_jobs()) == {"alone"}


def test_masks_made_of_a_lost_model_s_are_made_again_and_a_model_outlives_its_pretraining(tmp_path):
    model = ModelJob(id="model", training=Finetune, options=FinetuneOptions(data=tmp_path, out=tmp_path / "model"))
    refined = EvaluatedJob(id="refined", tests=(), needs=("model",))
    workers = Told(tmp_path, {})
    assert not run_jobs([model, refined], tmp_path, workers, lambda *_: None).done_before
    assert workers.started == ["model", "refined"]

    (tmp_path / "model").mkdir()
    (tmp_path / "model" / MODEL_FILE).touch()
    lost = [Job(id="pretrain"), replace(model, needs=("pretrain",)), refined]
    assert run_jobs(lost, tmp_path, workers, lambda *_: None).done_before == {"model", "refined"}


def test_a_study_that_is_stopped_has_interrupted_jobs_not_failed_ones(tmp_path):
    def stop(progress, running):
        if running and not progress.ended:
            os.kill(os.getpid(), signal.SIGTERM)

    workers = Told(tmp_path, {"pretrain": INTERRUPTED})
    with pytest.raises(InterruptedRunError, match="stopped by SIGTERM"):
        run_jobs(JOBS, tmp_path, workers, stop)
    assert read_state(tmp_path, "pretrain") == INTERRUPTED
    assert workers.started == ["pretrain"]
