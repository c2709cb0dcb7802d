"""What commands cost beside their work: starting, threads, studies."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import frugalseg
from frugalseg.options import EvaluateOptions, FinetuneOptions, PredictOptions, PrepareOptions, StudyOptions
from inputs import LIVER, model, scans, write_scans
from measure import OURS, Case, Cost, Setting, Way, Work, timed

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def command(*words: object) -> None:
    """Run a command in a new process."""
    subprocess.run([sys.executable, "-m", "frugalseg", *map(str, words)], check=True, stdout=sys.stderr)


def start(_: Setting, words: tuple[str, ...]) -> Work:
    return timed(lambda: command(*words))


def start_python(_: Setting) -> Work:
    return timed(lambda: subprocess.run([sys.executable, "-c", "pass"], check=True))


def start_predict(setting: Setting) -> Work:
    """A scan so small that the command mostly starts."""
    trained, scan = model(setting, [LIVER]), scans(setting, 1, (32, 32, 2), smoke=(32, 32, 2))
    return timed(
        lambda: command("predict", "--model", trained, "--images", scan.images, "--out", setting.empty("masks"))
    )


@contextmanager
def busy(cores: int) -> Iterator[None]:
    """A loop on so many cores, which ends with this process at the latest."""
    loop = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: pass"
    neighbours = [subprocess.Popen([sys.executable, "-c", loop]) for _ in range(cores)]
    try:
        yield
    finally:
        for neighbour in neighbours:
            neighbour.kill()
            neighbour.wait()


def step_beside(setting: Setting, neighbours: int) -> Work:
    """A fine-tuning step beside other processes."""
    from cases.training import finetune_step

    turn = finetune_step(setting, "unet")

    def run() -> Cost:
        with busy(neighbours):
            return turn()

    return run


def threads_case() -> Case:
    """With the default number and waiting of threads, with spinning threads, and with one."""
    settings = {
        OURS: {"OMP_NUM_THREADS": str(CORES)},
        "spinning": {"OMP_NUM_THREADS": str(CORES), "OMP_WAIT_POLICY": "ACTIVE"},
        "one thread": {"OMP_NUM_THREADS": "1"},
    }
    ways: dict[str, Way] = {name: partial(step_beside, neighbours=0) for name in settings}
    ways |= {f"{name}, busy machine": partial(step_beside, neighbours=CORES) for name in settings}
    environment = settings | {f"{name}, busy machine": values for name, values in settings.items()}
    return Case("threads", "fine-tuning step, 10 slices of 128²", ways, clock="wall", environment=environment)


PLAN = """
data: {phantoms: {phantoms: 8, grid: [64, 64, 24], size: 64}}
train: phantoms
tests: {held out: {data: phantoms}}
finetune: {steps: STEPS, precision: "32"}
methods: {scratch: {}}
budgets: ["1 scans"]
seeds: [0, 1]
"""


def study(setting: Setting) -> Work:
    steps = setting.pick(20, 1)
    plan = setting.once(f"plan-{steps}.yaml", partial(Path.write_text, data=PLAN.replace("STEPS", str(steps))))
    return timed(lambda: frugalseg.study(StudyOptions(plan=plan, out=setting.empty("study"), threads=1)), units=2)


def study_by_hand(setting: Setting) -> Work:
    """The same phantoms, trainings, predictions and evaluations, in one process and without a study."""

    def run() -> None:
        out = setting.empty("alone")
        cohort = write_scans(out / "scans", 8, (64, 64, 24))
        given = {"images": cohort.images, "labels": cohort.labels, "target": [LIVER]}
        data = frugalseg.prepare(PrepareOptions(**given, size=64, out=out / "store"))
        training = {"data": data.folder, "steps": setting.pick(20, 1), "precision": "32", "budget": "1 scans"}
        test = sorted(data.split().test)
        for seed in (0, 1):
            model, masks, scores = (out / str(seed) / name for name in ("model", "masks", "scores"))
            frugalseg.finetune(FinetuneOptions(**training, seed=seed, out=model))
            frugalseg.predict(PredictOptions(model=model, images=cohort.images, case=test, out=masks))
            frugalseg.evaluate(EvaluateOptions(predictions=masks, references=cohort.labels, case=test, out=scores))

    return timed(run, units=2)


CASES = [
    Case("start", "--help", {OURS: partial(start, words=("--help",)), "Python alone": start_python}),
    Case("start, finetune", "finetune --help", {OURS: partial(start, words=("finetune", "--help"))}),
    Case("start, predict", "scan of 32×32×2", {OURS: start_predict}),
    threads_case(),
    Case("study", "model of two", {OURS: study, "its runs alone": study_by_hand}, clock="wall"),
]
