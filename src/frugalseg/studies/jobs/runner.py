"""Running one job in its process, with a log file and a state file."""

from __future__ import annotations

import faulthandler
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from frugalseg.dataset.prepare import prepare
from frugalseg.engine.files import MODEL_FILE
from frugalseg.engine.memory import is_out_of_memory
from frugalseg.engine.progress import heartbeat, say, show_warnings
from frugalseg.engine.threads import use_threads
from frugalseg.errors import FrugalsegError, InterruptedRunError, RunError, disk_errors
from frugalseg.evaluation.evaluate import evaluate
from frugalseg.interrupts import sigterm_as_ctrl_c
from frugalseg.phantoms.cohort import PhantomOptions, write_cohort
from frugalseg.pretraining.pretrain import pretrain
from frugalseg.records.study import GridRecord, JobState
from frugalseg.studies.jobs.index_test_scans import index_test_scans
from frugalseg.studies.jobs.job import (
    EvaluatedJob,
    Job,
    MaskPreparationJob,
    ModelJob,
    Phantoms,
    PrepareJob,
    PretrainJob,
)
from frugalseg.studies.jobs.state import GRID, is_evaluated, state_path, write_state
from frugalseg.text import pluralize

JOB_LOCK_TIMEOUT_S = 60


def run_job(job: Job, folder: Path, threads: int) -> JobState:
    """Run a job of the study in `folder` and write its final state; errors of the job are not raised.

    Args:
        job: the job.
        folder: the study's folder.
        threads: CPU threads to compute with; the same number gives the same results.
    """
    log = Path("logs") / f"{job.id}.log"
    state = JobState("running", log=log.as_posix(), started=time.time(), threads=threads)
    begun = time.perf_counter()
    with use_threads(threads), _redirect_output(folder / log), heartbeat(job.id), sigterm_as_ctrl_c():
        try:
            with _lock_job(folder, job):
                write_state(folder, job.id, state)
                JOB_HANDLERS[type(job)](job, threads)
            state = replace(state, state="done")
        except (InterruptedRunError, KeyboardInterrupt) as error:
            state = replace(state, state="interrupted", error=str(error))
        except FrugalsegError as error:
            state = replace(state, state="failed", error=str(error))
        except Exception as error:
            traceback.print_exc()
            full = "not enough memory\n  → run with a smaller --jobs"
            state = replace(
                state, state="failed", error=full if is_out_of_memory(error) else f"{type(error).__name__}: {error}"
            )
        if state.error:
            say(f"{state.state}: {state.error}")
    state = replace(state, seconds=round(time.perf_counter() - begun, 3))
    write_state(folder, job.id, state)
    return state


def _prepare_data(job: PrepareJob, threads: int) -> None:
    if job.phantoms is not None:
        _make_phantoms(job.phantoms)
    options = replace(job.options, workers=threads)
    if job.test_only:
        index_test_scans(options)
    else:
        prepare(options)


def _prepare_masks(job: MaskPreparationJob, threads: int) -> None:
    job.maker.prepare(job.options, threads)


def _make_phantoms(phantoms: Phantoms) -> None:
    if phantoms.folder.is_dir():
        return
    partial = phantoms.folder.with_name(f"{phantoms.folder.name}.partial")
    say(f"making {pluralize(phantoms.count, 'phantom')} of the abdomen")
    if partial.is_dir():
        shutil.rmtree(partial)
    for folder in write_cohort(partial, phantoms.count, phantoms.seed, PhantomOptions(shape=phantoms.grid)):
        for scan in folder.iterdir():
            scan.rename(folder / scan.name.replace("phantom", phantoms.name))
    with disk_errors(phantoms.folder):
        partial.rename(phantoms.folder)


def _pretrain_encoder(job: PretrainJob, threads: int) -> None:
    pretrain(job.options)
    _delete_checkpoints(job.options.out)


def _train_and_test(job: ModelJob, threads: int) -> None:
    if not (job.options.out / MODEL_FILE).is_file():
        _delete_tests(job.options.out)
        job.training.train(job.options)
    _evaluate_tests(job, threads)
    _delete_checkpoints(job.options.out)


def _delete_tests(run: Path) -> None:
    """Delete the masks of an earlier model in this run folder, and the masks that were made from them.

    This is done before the new model is trained, so that a kill cannot leave old masks beside a new model.
    """
    out = run.parents[1]
    for trial in GridRecord.read(out / GRID).trials:
        if any(out / model.folder == run for model in trial.models):
            for folder in ((out / test).parent for test in trial.tests.values()):
                if folder.is_dir():
                    shutil.rmtree(folder)


def _evaluate_tests(job: EvaluatedJob, threads: int) -> None:
    for test in job.tests:
        if not is_evaluated(test.evaluate.out):
            test.maker.make(test.make)
            evaluate(test.evaluate)


def _delete_checkpoints(run: Path) -> None:
    """Delete the checkpoints of a finished run; those of hundreds of runs would fill a disk."""
    for checkpoints in run.rglob("checkpoints"):
        shutil.rmtree(checkpoints)


JOB_HANDLERS: dict[type[Job], Callable[[Any, int], None]] = {
    PrepareJob: _prepare_data,
    MaskPreparationJob: _prepare_masks,
    PretrainJob: _pretrain_encoder,
    ModelJob: _train_and_test,
    EvaluatedJob: _evaluate_tests,
}


@contextmanager
def _lock_job(folder: Path, job: Job) -> Iterator[None]:
    """Keep other processes from running this job, as when a study is restarted while an old job still runs."""
    path = state_path(folder, job.id).with_suffix(".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path, timeout=JOB_LOCK_TIMEOUT_S):
            yield
    except Timeout:
        raise RunError(f"another process is running {job.id}", "wait for it, or stop it") from None


@contextmanager
def _redirect_output(path: Path) -> Iterator[None]:
    """Write all output of this process to the file, including that of C libraries and the traceback of a crash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [os.dup(1), os.dup(2)]
    streams = (sys.stdout, sys.stderr)
    with path.open("a", encoding="utf-8", buffering=1) as file:
        file.write(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')}\n")
        for number in (1, 2):
            os.dup2(file.fileno(), number)
        sys.stdout = sys.stderr = file
        faulthandler.enable(file)
        show_warnings()
        try:
            yield
        finally:
            faulthandler.disable()
            sys.stdout, sys.stderr = streams
            for number, before in zip((1, 2), saved, strict=True):
                os.dup2(before, number)
                os.close(before)
