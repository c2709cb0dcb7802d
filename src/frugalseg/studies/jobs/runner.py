"""Doing one job: in a process of its own, with a log of its own, and a state that tells how it ended."""

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

PATIENCE_S = 60


def run_job(job: Job, folder: Path, threads: int) -> JobState:
    """Do a job of the study in `folder` and keep how it ended; raises nothing but what ends the process.

    Args:
        job: the work.
        folder: the study's folder.
        threads: CPU threads to compute with; the same number gives the same figures.
    """
    log = Path("logs") / f"{job.id}.log"
    state = JobState("running", log=log.as_posix(), started=time.time(), threads=threads)
    begun = time.perf_counter()
    with use_threads(threads), _output_to(folder / log), heartbeat(job.id), sigterm_as_ctrl_c():
        try:
            with _alone(folder, job):
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


def _prepare(job: PrepareJob, threads: int) -> None:
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


def _pretrain(job: PretrainJob, threads: int) -> None:
    pretrain(job.options)
    _drop_checkpoints(job.options.out)


def _train_and_test(job: ModelJob, threads: int) -> None:
    if not (job.options.out / MODEL_FILE).is_file():
        _forget_tests(job.options.out)
        job.training.train(job.options)
    _test(job, threads)
    _drop_checkpoints(job.options.out)


def _forget_tests(run: Path) -> None:
    """Delete the masks of an older model of this name, and those that others made of them. Before the new one is
    trained: a kill in between would leave them beside it."""
    out = run.parents[1]
    for trial in GridRecord.read(out / GRID).trials:
        if trial.folder is not None and out / trial.folder == run:
            for folder in ((out / test).parent for test in trial.tests.values()):
                if folder.is_dir():
                    shutil.rmtree(folder)


def _test(job: EvaluatedJob, threads: int) -> None:
    for test in job.tests:
        if not is_evaluated(test.evaluate.out):
            test.maker.make(test.make)
            evaluate(test.evaluate)


def _drop_checkpoints(run: Path) -> None:
    """Checkpoints of a finished run are of no more use, and of hundreds of runs they fill a disk."""
    for checkpoints in run.rglob("checkpoints"):
        shutil.rmtree(checkpoints)


JOB_HANDLERS: dict[type[Job], Callable[[Any, int], None]] = {
    PrepareJob: _prepare,
    MaskPreparationJob: _prepare_masks,
    PretrainJob: _pretrain,
    ModelJob: _train_and_test,
    EvaluatedJob: _test,
}


@contextmanager
def _alone(folder: Path, job: Job) -> Iterator[None]:
    """No second process does this job, even if the study was restarted before an orphan of it was gone."""
    path = state_path(folder, job.id).with_suffix(".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path, timeout=PATIENCE_S):
            yield
    except Timeout:
        raise RunError(f"another process is doing {job.id}", "wait for it, or stop it") from None


@contextmanager
def _output_to(path: Path) -> Iterator[None]:
    """Everything this process says goes into the file, what C libraries say and a crash's traceback too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(1), os.dup(2)]
    shown = (sys.stdout, sys.stderr)
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
            sys.stdout, sys.stderr = shown
            for number, before in zip((1, 2), kept, strict=True):
                os.dup2(before, number)
                os.close(before)
