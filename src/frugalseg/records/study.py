"""The JSON files of a study's folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from frugalseg.records.record import Content, Record

RUN_AGAIN = "run the same `frugalseg study` command again, which rewrites it"
Converters = Mapping[int, Callable[[Content], Content]]


@dataclass(frozen=True)
class PlannedPretraining:
    """Pre-training of a trial's encoder.

    Attributes:
        id: id of its job.
        folder: its run folder, relative to the study's folder.
    """

    id: str
    folder: str


@dataclass(frozen=True)
class PlannedModel:
    """A model of a trial.

    Attributes:
        folder: run folder of its training, relative to the study's folder.
        semi: semi-supervised use of unlabelled slices; empty in older studies.
        pretrain: pre-training of its encoder, or None.
    """

    folder: str
    semi: str
    pretrain: PlannedPretraining | None


@dataclass(frozen=True)
class PlannedTrial:
    """One trial of the grid.

    Attributes:
        id: of the job that makes and evaluates its masks.
        method, backbone, budget: as in the plan.
        draw, seed: the first of `draws` and of `seeds`.
        draws, seeds: label draws and seeds that it stands for: those that select the same labels are trained once.
        transductive: whether its pre-training used test scans.
        uses_test_references: whether reference masks of test scans were its input (annotated slices, boxes).
        annotation: labels that another program used, as the plan states them; None for models trained here.
        models: the models that it trains, none without training; several are averaged.
        tests: test set → folder of its evaluation, relative to the study's folder.
    """

    id: str
    method: str
    backbone: str
    budget: str
    draw: int
    seed: int
    draws: tuple[int, ...]
    seeds: tuple[int, ...]
    transductive: bool
    uses_test_references: bool
    annotation: str | None
    models: tuple[PlannedModel, ...]
    tests: dict[str, str]


@dataclass(frozen=True)
class PlannedTest:
    """A test set.

    Attributes:
        in_domain: whether its scans come from the same source as the training scans.
        millimetres: False where the spacing in the files is a placeholder.
        patients: case id → patient.
    """

    name: str
    in_domain: bool
    millimetres: bool
    patients: dict[str, str]


def _convert_cells(content: Content) -> Content:
    """Format 0: trials are called cells, each has one draw and seed, and early files lack masks of other programs."""
    trials = [
        {
            **{"draws": [cell["draw"]], "seeds": [cell["seed"]], "annotation": None, "semi": ""},
            "uses_test_references": cell.get("guided", False),
            **cell,
        }
        for cell in content["cells"]
    ]
    return {"trials": trials, "tests": content["tests"]}


def _convert_folders(content: Content) -> Content:
    """Format 1: a trial had at most one model."""
    kept = [{key: trial[key] for key in trial if key not in _MODEL_KEYS} for trial in content["trials"]]
    models = [[{key: trial[key] for key in _MODEL_KEYS}] if trial["folder"] else [] for trial in content["trials"]]
    trials = [{**trial, "models": of_trial} for trial, of_trial in zip(kept, models, strict=True)]
    return {**content, "trials": trials}


_MODEL_KEYS = ("folder", "semi", "pretrain")


@dataclass(frozen=True)
class GridRecord(Record):
    """grid.json: every trial of a study, and its test sets, in the plan's order."""

    FORMAT: ClassVar[int] = 2
    CURE: ClassVar[str] = RUN_AGAIN
    OLDER: ClassVar[Converters] = {0: _convert_cells, 1: _convert_folders}
    trials: tuple[PlannedTrial, ...]
    tests: tuple[PlannedTest, ...]


@dataclass(frozen=True)
class StudyRecord(Record):
    """study.json: how a study was last started; a folder with this file is a study folder.

    Attributes:
        jobs: jobs in parallel.
        version: version of frugalseg.
        plan: path of the plan.
        threads: CPU threads of each job.
        ray: address of the Ray cluster; None for this machine.
        only: the part of the grid requested by --only; empty for all of it.
        started: date and time.
    """

    CURE: ClassVar[str] = RUN_AGAIN
    OLDER: ClassVar[Converters] = {0: lambda content: {**content, "jobs": content["at_once"]}}
    jobs: int
    version: str = ""
    plan: str = ""
    threads: int = 0
    ray: str | None = None
    only: tuple[str, ...] = ()
    started: str = ""


@dataclass(frozen=True)
class JobState(Record):
    """jobs/ID.json: state of a job's last run.

    Attributes:
        state: interrupted: the next run continues it from its checkpoint.
        seconds: duration.
        error: what went wrong and what to do.
        log: the log file, relative to the study's folder.
        started: time of the start, in seconds since 1970.
        threads: CPU threads.
    """

    CURE: ClassVar[str] = "delete it: the job then counts as not started, unless its result exists"
    OLDER: ClassVar[Converters] = {0: dict}
    state: Literal["waiting", "running", "done", "failed", "interrupted"] = "waiting"
    seconds: float = 0.0
    error: str = ""
    log: str = ""
    started: float = 0.0
    threads: int = 0


@dataclass(frozen=True)
class TableList(Record):
    """tables/tables.json: name of each table of the report → its title."""

    CURE: ClassVar[str] = "delete it, and the tables beside it that this report does not have"
    OLDER: ClassVar[Converters] = {0: lambda content: {"tables": content}}
    tables: dict[str, str]
