"""Doing one job: in a process of its own, with a log of its own, and a state that tells how it ended."""

from __future__ import annotations

import faulthandler
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from frugalseg.commands.finetune import finetune
from frugalseg.dataset.prepare import prepare
from frugalseg.engine.memory import out_of_memory
from frugalseg.engine.progress import never_silent, say, show_warnings
from frugalseg.engine.run import SPEC
from frugalseg.engine.threads import using_threads
from frugalseg.errors import FrugalsegError, InterruptedRunError, RunError, disk_errors
from frugalseg.evaluation.evaluate import evaluate
from frugalseg.options import (
    FinetuneOptions,
    PredictOptions,
    RefineOptions,
    SamMixPredictOptions,
    SamMixTrainOptions,
)
from frugalseg.phantoms.cohort import PhantomOptions, write_cohort
from frugalseg.pretraining.pretrain import pretrain
from frugalseg.refinement.refine import refine
from frugalseg.sam_mix.predict import sam_mix_predict
from frugalseg.sam_mix.train import sam_mix_train
from frugalseg.segmentation.predict import predict
from frugalseg.studies.jobs.index_test_scans import look
from frugalseg.studies.jobs.job import (
    Carry,
    EvaluatedJob,
    Job,
    MasksJob,
    ModelJob,
    Phantoms,
    PrepareJob,
    PretrainJob,
    Take,
)
from frugalseg.studies.jobs.other_masks import look_at_masks, take
from frugalseg.studies.jobs.propagate_middle import carry
from frugalseg.studies.jobs.state import JobState, is_evaluated, state_path, write_state
from frugalseg.studies.report.results import GRID, WHERE
from frugalseg.text import counted

PATIENCE_S = 60


def attempt(job: Job, folder: Path, threads: int) -> JobState:
    """Do a job of the study in `folder` and keep how it ended; raises nothing but what ends the process.

    Args:
        job: the work.
        folder: the study's folder.
        threads: CPU threads to compute with; the same number gives the same figures.
    """
    log = Path("logs") / f"{job.id}.log"
    state = JobState("running", log=log.as_posix(), started=time.time(), threads=threads)
    begun = time.perf_counter()
    with using_threads(threads), _output_to(folder / log), never_silent(job.id), _stoppable():
        try:
            with _alone(folder, job):
                write_state(folder, job.id, state)
                WORK[type(job)](job, threads)
            state = replace(state, state="done")
        except (InterruptedRunError, KeyboardInterrupt) as error:
            state = replace(state, state="interrupted", error=str(error))
        except FrugalsegError as error:
            state = replace(state, state="failed", error=str(error))
        except Exception as error:
            traceback.print_exc()
            full = "not enough memory\n  → run with a smaller --jobs"
            state = replace(
                state, state="failed", error=full if out_of_memory(error) else f"{type(error).__name__}: {error}"
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
    if job.look:
        look(options)
    else:
        prepare(options)


def _look_at_masks(job: MasksJob, threads: int) -> None:
    look_at_masks(replace(job, workers=threads))


def _make_phantoms(phantoms: Phantoms) -> None:
    if phantoms.folder.is_dir():
        return
    partial = phantoms.folder.with_name(f"{phantoms.folder.name}.partial")
    say(f"making {counted(phantoms.count, 'phantom')} of the abdomen")
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
    if not (job.options.out / SPEC).is_file():
        _forget_tests(job.options.out)
        TRAIN[type(job.options)](job.options)
    _test(job, threads)
    _drop_checkpoints(job.options.out)


def _forget_tests(run: Path) -> None:
    """Delete the masks of an older model of this name, and those that others made of them. Before the new one is
    trained: a kill in between would leave them beside it."""
    out = run.parents[1]
    for cell in WHERE.read(out / GRID)["cells"]:
        if cell["folder"] is not None and out / cell["folder"] == run:
            for folder in ((out / test).parent for test in cell["tests"].values()):
                if folder.is_dir():
                    shutil.rmtree(folder)


def _test(job: EvaluatedJob, threads: int) -> None:
    for test in job.tests:
        if not is_evaluated(test.evaluate.out):
            MAKE[type(test.make)](test.make)
            evaluate(test.evaluate)


TRAIN: dict[type[Any], Callable[[Any], object]] = {FinetuneOptions: finetune, SamMixTrainOptions: sam_mix_train}

MAKE: dict[type[Any], Callable[[Any], object]] = {
    PredictOptions: predict,
    SamMixPredictOptions: sam_mix_predict,
    RefineOptions: refine,
    Carry: carry,
    Take: take,
}


def _drop_checkpoints(run: Path) -> None:
    """Checkpoints of a finished run are of no more use, and of hundreds of runs they fill a disk."""
    for checkpoints in run.rglob("checkpoints"):
        shutil.rmtree(checkpoints)


WORK: dict[type[Job], Callable[[Any, int], None]] = {
    PrepareJob: _prepare,
    MasksJob: _look_at_masks,
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


@contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM ends this job as Ctrl-C would; a training takes both over, to write a checkpoint first."""

    def stop(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not break off what the first one began
        raise KeyboardInterrupt("stopped")

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
