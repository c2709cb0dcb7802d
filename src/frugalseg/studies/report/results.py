"""What came of a study, as tables: one row a planned model, one row a scan, organ and model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from frugalseg.dataset.budget import Budget
from frugalseg.engine.files import atomic_write
from frugalseg.engine.forms import Form
from frugalseg.engine.run import SPEC
from frugalseg.engine.yaml_files import load_yaml
from frugalseg.errors import RunError
from frugalseg.evaluation.metric_table import DICE, Place, list_metrics
from frugalseg.evaluation.results import SUMMARY
from frugalseg.records.model import read_mask_model
from frugalseg.records.study import RUN_AGAIN, GridRecord, PlannedTrial
from frugalseg.records.summary import EvaluationState
from frugalseg.studies.jobs.job_progress import training_seconds
from frugalseg.studies.jobs.state import GRID, SETTINGS, is_evaluated, read_state, someone_at_work

PLAN = "plan.yaml"

RESOLVED = Form(
    {
        **{"name": str, "description": str, "baseline": str, "methods": {str: {"note": str}}},
        **{"backbones": [str], "budgets": [str], "draws": [int], "seeds": [int]},
    },
    RunError,
    RUN_AGAIN,
    parse=load_yaml,
)
"""plan.yaml."""
_RUN_CURE = "copy the run folder again from an intact copy, or delete it and run the study again"
MACHINE = Form({"device": str, "commit": str | None}, RunError, _RUN_CURE)
"""What they tell of an environment.json."""

KEYS = ("method", "backbone", "budget", "draw", "seed")
"""What names a model of the grid."""

TRIAL_COLUMNS = {
    **dict.fromkeys(KEYS, "as in the plan"),
    "draws": "that it represents: several where they select the same labels, which is one run",
    "seeds": "that it represents: all of them where nothing is trained, which is one run",
    "trained": "whether a model was trained for it",
    "state": "done, running, failed or waiting",
    "error": "why it failed",
    "transductive": "whether its pre-training saw test scans",
    "uses_test_references": "whether references of the test scans gave slices or boxes to it",
    "external": "whether another program made its masks",
    "annotation": "what that program was trained on, as the plan states it",
    "test_slices": "slices of test scans whose references were given to it; empty where all of them gave boxes",
    "masks": "slices whose masks were used for training",
    "mask_scans": "scans that these slices come from",
    "validation_masks": "slices whose masks chose the step and the post-processing",
    "validation_scans": "scans that these slices come from",
    "organ_present_labels": "slices whose image-level labels pre-training used",
    "pretrain_scans": "scans that pre-training saw",
    "semi": "how unlabelled slices were asked to be used",
    "unlabelled_slices": "slices that fine-tuning used without their masks; 0 where none were left",
    "unlabelled_scans": "scans that these slices come from",
    "pretrain_minutes": "of training, shared by all models of this pre-training",
    "finetune_minutes": "of training, all rounds",
    "parameters": "of the network",
    "device": "where it was trained",
    "commit": "of the source tree it was trained with",
    "validation_dice": "Dice that chose the model",
}
"""Columns of `StudyResults.trials`; from `masks` on empty where the model is not done.

One row is one trial: a training, or what comes without one, and what it stands for (`studies.jobs.equivalent_runs`).
"""


def case_metrics() -> list[str]:
    """Columns of `StudyResults.cases` that hold metrics."""
    return [metric.key for metric in list_metrics(Place.STUDIES)]


def case_columns() -> list[str]:
    """Columns of `StudyResults.cases`."""
    return [*KEYS, "test", "case", "patient", "organ", "outcome", *case_metrics()]


@dataclass(frozen=True)
class TestSet:
    """Scans that every model is tested on.

    Attributes:
        in_domain: whether they come from where the training scans come from.
        millimetres: False where the spacing in the files is a placeholder: no distance may then be shown.
        scans: number of scans.
    """

    name: str
    in_domain: bool
    millimetres: bool
    scans: int


@dataclass(frozen=True)
class StudyResults:
    """A study as far as it is done.

    Attributes:
        name, description: of the plan.
        baseline: the method that the others are compared with.
        methods, backbones, budgets, draws, seeds: in the plan's order.
        method_notes: method → what it is and what it was given, in one line.
        trials: every planned model, done or not (see `TRIAL_COLUMNS`).
        cases: every measured scan and organ of the done models (see `case_columns`).
    """

    name: str
    description: str
    baseline: str
    methods: tuple[str, ...]
    backbones: tuple[str, ...]
    budgets: tuple[str, ...]
    draws: tuple[int, ...]
    seeds: tuple[int, ...]
    tests: tuple[TestSet, ...]
    method_notes: dict[str, str]
    trials: pd.DataFrame
    cases: pd.DataFrame


def collect(folder: Path) -> StudyResults:
    """The results of the study in `folder`, as far as it is done.

    Raises:
        RunError: there is no study, or its data are not prepared yet.
    """
    if not (folder / SETTINGS).is_file():
        raise RunError(f"{folder} holds no study", "give the --out of a `frugalseg study`")
    if not (folder / GRID).is_file():
        raise RunError(f"the study in {folder} has not got beyond preparing its data", "run it first")
    plan, grid = RESOLVED.read(folder / PLAN), GridRecord.read(folder / GRID)
    planned = [replace(trial, budget=Budget.parse(trial.budget, none=True).in_words) for trial in grid.trials]
    at_work = someone_at_work(folder) is not False  # where it cannot be told, the jobs are believed
    trials = [_trial(folder, trial, at_work) for trial in planned]
    patients = {test.name: test.patients for test in grid.tests}
    cases = [
        _cases(folder, trial, patients) for trial, row in zip(planned, trials, strict=True) if row["state"] == "done"
    ]
    return StudyResults(
        name=plan["name"],
        description=plan["description"],
        baseline=plan["baseline"],
        methods=tuple(plan["methods"]),
        backbones=tuple(plan["backbones"]),
        budgets=tuple(Budget.parse(budget, none=True).in_words for budget in plan["budgets"]),
        draws=tuple(plan["draws"]),
        seeds=tuple(plan["seeds"]),
        tests=tuple(TestSet(t.name, t.in_domain, t.millimetres, len(t.patients)) for t in grid.tests),
        method_notes={name: method["note"] for name, method in plan["methods"].items()},
        trials=pd.DataFrame(trials, columns=list(TRIAL_COLUMNS)),
        cases=pd.concat(cases, ignore_index=True) if cases else pd.DataFrame(columns=case_columns()),
    )


def _trial(folder: Path, trial: PlannedTrial, at_work: bool) -> dict[str, object]:
    """One row of `trials`."""
    row: dict[str, object] = {key: getattr(trial, key) for key in (*KEYS, "transductive", "uses_test_references")}
    row |= {"draws": " ".join(map(str, trial.draws)), "seeds": " ".join(map(str, trial.seeds))}
    row |= {"trained": trial.folder is not None, "annotation": trial.annotation or ""}
    row["external"] = row["annotation"] != ""
    trained = trial.folder is None or (folder / trial.folder / SPEC).is_file()
    if trained and all(is_evaluated(folder / test) for test in trial.tests.values()):
        facts = _facts(folder, trial) if row["trained"] else UNKNOWN if row["external"] else UNTRAINED
        return {**row, "state": "done", "error": "", **facts, "test_slices": _test_slices(folder, trial)}
    state = read_state(folder, trial.id)
    told = {"failed": "failed", "running": "running" if at_work else "waiting"}.get(state.state, "waiting")
    return {**row, "state": told, "error": state.error if told == "failed" else "", "device": "", "commit": ""}


def _facts(folder: Path, trial: PlannedTrial) -> dict[str, object]:
    """What a finished model was given, and what it cost."""
    assert trial.folder is not None
    run = folder / trial.folder
    model, environment = read_mask_model(run), MACHINE.read(run / "environment.json")
    annotation = model.annotation
    pretrain = folder / trial.pretrain.folder if trial.pretrain else None
    return {
        "masks": annotation.masks,
        "mask_scans": annotation.mask_scans,
        "validation_masks": math.nan if annotation.validation_masks is None else annotation.validation_masks,
        "validation_scans": annotation.validation_scans,
        "organ_present_labels": annotation.organ_present_labels,
        "pretrain_scans": annotation.pretrain_scans,
        "semi": trial.semi,
        "unlabelled_slices": annotation.unlabelled_slices,
        "unlabelled_scans": annotation.unlabelled_scans,
        "pretrain_minutes": training_seconds(pretrain) / 60 if pretrain else 0.0,
        "finetune_minutes": training_seconds(run) / 60,
        "parameters": model.parameters,
        "device": environment["device"],
        "commit": environment["commit"] or "",
        "validation_dice": model.validation_dice,
    }


UNTRAINED = {
    **dict.fromkeys(("masks", "mask_scans", "validation_masks", "validation_scans", "organ_present_labels"), 0),
    **dict.fromkeys(("pretrain_scans", "unlabelled_slices", "unlabelled_scans"), 0),
    **dict.fromkeys(("pretrain_minutes", "finetune_minutes"), 0.0),
    "semi": "none",
    "parameters": math.nan,
    "device": "",
    "commit": "",
    "validation_dice": math.nan,
}
"""What a method without training was given, and what it cost."""


UNKNOWN = {name: value if isinstance(value, str) else math.nan for name, value in {**UNTRAINED, "semi": ""}.items()}
"""What is known of a method whose masks another program made."""


def _test_slices(folder: Path, trial: PlannedTrial) -> float:
    """How many annotated slices of test scans were used, over all test sets; NaN where every reference was."""
    if not trial.uses_test_references:
        return 0
    summaries = [EvaluationState.read(folder / test / SUMMARY) for test in trial.tests.values()]
    return sum(len(slices) for s in summaries for slices in s.annotated_slices_left_out.values()) or math.nan


def _cases(folder: Path, trial: PlannedTrial, patients: Mapping[str, Mapping[str, str]]) -> pd.DataFrame:
    """The rows of `cases` of one model, over all test sets."""
    tables = []
    for test, evaluation in trial.tests.items():
        table = _read_cases(folder / evaluation / "cases.csv")
        table["test"], table["patient"] = test, table["case"].map(patients[test])
        tables.append(table.assign(**{key: getattr(trial, key) for key in KEYS}))
    return pd.concat(tables, ignore_index=True)[case_columns()]


def _read_cases(path: Path) -> pd.DataFrame:
    """The cases of one evaluation; NaN for a metric that was added since."""
    always, metrics = ["case", "organ", "outcome", DICE.key], case_metrics()
    try:
        table = pd.read_csv(
            path,
            usecols=lambda column: column in (*always, *metrics),
            dtype={"case": str, "organ": str, **dict.fromkeys(metrics, float)},
            keep_default_na=False,  # a case may be called NA
            na_values={name: [""] for name in metrics},
        )
        if missing := [column for column in always if column not in table]:
            raise ValueError(f"it has no column {missing[0]}")
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise RunError(
            f"{path} is damaged ({reason})", f"delete {path.with_name(SUMMARY)} and run the study again"
        ) from error
    return table.reindex(columns=list(dict.fromkeys([*always, *metrics])))


def write_tables(results: StudyResults, folder: Path) -> None:
    """Write trials.csv and cases.csv."""
    (folder / "cells.csv").unlink(missing_ok=True)  # as older versions called trials.csv
    for name, table in (("trials", results.trials), ("cases", results.cases)):
        with atomic_write(folder / f"{name}.csv", "w") as file:
            table.to_csv(file, index=False)
