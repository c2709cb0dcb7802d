"""The results of a study as tables: one row per planned trial, and one row per scan, organ and finished trial."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from frugalseg.dataset.budget import Budget
from frugalseg.engine.files import MODEL_FILE, atomic_write
from frugalseg.engine.schema import Schema
from frugalseg.engine.yaml_files import load_yaml
from frugalseg.errors import RunError
from frugalseg.evaluation.metric_table import DICE, Place, list_metrics
from frugalseg.evaluation.results import SUMMARY
from frugalseg.records.any_model import read_mask_model
from frugalseg.records.study import RUN_AGAIN, GridRecord, PlannedModel, PlannedTrial
from frugalseg.records.summary import EvaluationState
from frugalseg.studies.jobs.job_progress import read_training_seconds
from frugalseg.studies.jobs.state import GRID, SETTINGS, is_evaluated, is_study_running, read_state

PLAN = "plan.yaml"

RESOLVED = Schema(
    {
        **{"name": str, "description": str, "baseline": str, "methods": {str: {"note": str}}},
        **{"backbones": [str], "budgets": [str], "draws": [int], "seeds": [int]},
    },
    RunError,
    RUN_AGAIN,
    parse=load_yaml,
)
"""The keys of plan.yaml that are read here."""
_RUN_CURE = "copy the run folder again from an intact copy, or delete it and run the study again"
MACHINE = Schema({"device": str, "commit": str | None}, RunError, _RUN_CURE)
"""The keys of environment.json that are read here."""

TRIAL_KEYS = ("method", "backbone", "budget", "draw", "seed")
"""The keys that name a trial."""

TRIAL_STATES = ("done", "running", "failed", "waiting")
"""States of a trial, in the order in which they are shown."""

TRIAL_COLUMNS = {
    **dict.fromkeys(TRIAL_KEYS, "as in the plan"),
    "draws": "that it represents: several if they select the same labels, which is one run",
    "seeds": "that it represents: all of them if nothing is trained, which is one run",
    "trained": "whether a model was trained for it",
    "state": "done, running, failed or waiting",
    "error": "why it failed",
    "transductive": "whether its pre-training used test scans",
    "uses_test_references": "whether it takes slices or boxes from references of the test scans",
    "external": "whether another program made its masks",
    "annotation": "the training annotation of that program, as the plan states it",
    "test_slices": "slices of test scans whose references it used; empty where it used boxes of all references",
    "masks": "slices whose masks were used for training",
    "mask_scans": "scans that these slices come from",
    "validation_masks": "slices whose masks selected the step and the post-processing",
    "validation_scans": "scans that these slices come from",
    "organ_present_labels": "slices whose image-level labels pre-training used",
    "pretrain_scans": "scans that pre-training used",
    "semi": "how unlabelled slices were to be used",
    "unlabelled_slices": "slices that fine-tuning used without their masks; 0 if none were left",
    "unlabelled_scans": "scans that these slices come from",
    "pretrain_minutes": "training time, shared by all models of this pre-training",
    "finetune_minutes": "training time, all rounds",
    "parameters": "number of parameters of the network",
    "device": "where it was trained",
    "commit": "of the source tree it was trained with",
    "validation_dice": "Dice that selected the model",
    "unlearned": "organs whose validation Dice was 0",
}
"""Columns of `StudyResults.trials`; from `masks` on empty if the trial is not done.

One row is one trial, with or without a training, and the runs that it represents (`studies.jobs.equivalent_runs`).
"""


def list_case_metrics() -> list[str]:
    """Columns of `StudyResults.cases` that hold metrics."""
    return [metric.key for metric in list_metrics(Place.STUDIES)]


def list_case_columns() -> list[str]:
    """Columns of `StudyResults.cases`."""
    return [*TRIAL_KEYS, "test", "case", "patient", "organ", "outcome", *list_case_metrics()]


@dataclass(frozen=True)
class TestSet:
    """A test set.

    Attributes:
        in_domain: whether its scans come from the same source as the training scans.
        millimetres: False if the spacing in the files is a placeholder: then no distance or volume may be shown.
        scans: number of scans.
    """

    name: str
    in_domain: bool
    millimetres: bool
    scans: int


@dataclass(frozen=True)
class StudyResults:
    """The results of a study, finished or not.

    Attributes:
        name, description: of the plan.
        baseline: the method that the others are compared with.
        methods, backbones, budgets, draws, seeds: in the plan's order.
        method_notes: method → its description in one line.
        trials: every planned trial, done or not (see `TRIAL_COLUMNS`).
        cases: every measured scan and organ of the finished trials (see `list_case_columns`).
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


def collect_results(folder: Path, with_cases: bool = True) -> StudyResults:
    """The results so far of the study in `folder`.

    Args:
        folder: of the study.
        with_cases: whether to read the scores; without them `cases` is empty.

    Raises:
        RunError: the folder holds no study, or its data are not prepared yet.
    """
    if not (folder / SETTINGS).is_file():
        raise RunError(f"{folder} holds no study", "give the --out of a `frugalseg study`")
    if not (folder / GRID).is_file():
        raise RunError(f"the data of the study in {folder} are not prepared yet", "run `frugalseg study` first")
    plan, grid = RESOLVED.read(folder / PLAN), GridRecord.read(folder / GRID)
    planned = [replace(trial, budget=Budget.parse(trial.budget, none=True).in_words) for trial in grid.trials]
    is_running = is_study_running(folder) is not False  # if unknown, rely on the states of the jobs
    trials = [_make_trial_row(folder, trial, is_running) for trial in planned]
    patients = {test.name: test.patients for test in grid.tests}
    done = [trial for trial, row in zip(planned, trials, strict=True) if row["state"] == "done"]
    # One table is made of all rows at the end: a table per trial would take most of the time.
    cases = [row for trial in (done if with_cases else ()) for row in _read_trial_cases(folder, trial, patients)]
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
        cases=pd.DataFrame(cases, columns=list_case_columns()),
    )


def _make_trial_row(folder: Path, trial: PlannedTrial, is_running: bool) -> dict[str, object]:
    """One row of `trials`."""
    row: dict[str, object] = {key: getattr(trial, key) for key in (*TRIAL_KEYS, "transductive", "uses_test_references")}
    row |= {"draws": " ".join(map(str, trial.draws)), "seeds": " ".join(map(str, trial.seeds))}
    row |= {"trained": bool(trial.models), "annotation": trial.annotation or ""}
    row["external"] = row["annotation"] != ""
    trained = all((folder / model.folder / MODEL_FILE).is_file() for model in trial.models)
    if trained and all(is_evaluated(folder / test) for test in trial.tests.values()):
        facts = _read_facts(folder, trial) if row["trained"] else UNKNOWN_COSTS if row["external"] else UNTRAINED_COSTS
        return {**row, "state": "done", "error": "", **facts, "test_slices": _count_test_slices(folder, trial)}
    state = read_state(folder, trial.id)
    shown = {"failed": "failed", "running": "running" if is_running else "waiting"}.get(state.state, "waiting")
    return {**row, "state": shown, "error": state.error if shown == "failed" else "", "device": "", "commit": ""}


def _read_facts(folder: Path, trial: PlannedTrial) -> dict[str, object]:
    """The annotation that the models of a finished trial used, and their cost."""
    facts = [_read_model_facts(folder, model) for model in trial.models]
    return (
        {name: COMBINE.get(name, max)([fact[name] for fact in facts]) for name in facts[0]} if facts[1:] else facts[0]
    )


def _read_model_facts(folder: Path, planned: PlannedModel) -> dict[str, Any]:
    run = folder / planned.folder
    model, environment = read_mask_model(run), MACHINE.read(run / "environment.json")
    annotation = model.annotation
    pretrain = folder / planned.pretrain.folder if planned.pretrain else None
    return {
        "masks": annotation.masks,
        "mask_scans": annotation.mask_scans,
        "validation_masks": math.nan if annotation.validation_masks is None else annotation.validation_masks,
        "validation_scans": annotation.validation_scans,
        "organ_present_labels": annotation.organ_present_labels,
        "pretrain_scans": annotation.pretrain_scans,
        "semi": planned.semi,
        "unlabelled_slices": annotation.unlabelled_slices,
        "unlabelled_scans": annotation.unlabelled_scans,
        "pretrain_minutes": read_training_seconds(pretrain) / 60 if pretrain else 0.0,
        "finetune_minutes": read_training_seconds(run) / 60,
        "parameters": model.parameters,
        "device": environment["device"],
        "commit": environment["commit"] or "",
        "validation_dice": model.validation_dice,
        "unlearned": ", ".join(model.unlearned_organs),
    }


def _list_distinct(values: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(value for value in values if value))


def _list_common(values: Sequence[str]) -> str:
    """The organs that are in every one of these lists."""
    first, *others = (value.split(", ") for value in values)
    return ", ".join(organ for organ in first if all(organ in other for other in others))


COMBINE: Mapping[str, Callable[[list[Any]], object]] = {
    **dict.fromkeys(("pretrain_minutes", "finetune_minutes", "parameters"), sum),
    **dict.fromkeys(("semi", "device", "commit"), _list_distinct),
    "unlearned": _list_common,
    "validation_dice": lambda values: math.nan,  # that of the mean is not measured
}
"""How the facts of averaged models are combined, where not by their maximum: they are trained on the same labels."""

UNTRAINED_COSTS = {
    **dict.fromkeys(("masks", "mask_scans", "validation_masks", "validation_scans", "organ_present_labels"), 0),
    **dict.fromkeys(("pretrain_scans", "unlabelled_slices", "unlabelled_scans"), 0),
    **dict.fromkeys(("pretrain_minutes", "finetune_minutes"), 0.0),
    "semi": "none",
    "unlearned": "",
    "parameters": math.nan,
    "device": "",
    "commit": "",
    "validation_dice": math.nan,
}
"""The same for a method without training."""

UNKNOWN_COSTS = {
    name: value if isinstance(value, str) else math.nan for name, value in {**UNTRAINED_COSTS, "semi": ""}.items()
}
"""The same for a method whose masks another program made."""


def _count_test_slices(folder: Path, trial: PlannedTrial) -> float:
    """The number of annotated slices of test scans that were used, over all test sets; NaN for boxes of references."""
    if not trial.uses_test_references:
        return 0
    summaries = [EvaluationState.read(folder / test / SUMMARY) for test in trial.tests.values()]
    return sum(len(slices) for s in summaries for slices in s.annotated_slices_left_out.values()) or math.nan


def _read_trial_cases(
    folder: Path, trial: PlannedTrial, patients: Mapping[str, Mapping[str, str]]
) -> Iterator[tuple[str | int | float | None, ...]]:
    """The rows of `cases` of one trial, over all test sets."""
    key = tuple(getattr(trial, name) for name in TRIAL_KEYS)
    for test, evaluation in trial.tests.items():
        for case, organ, outcome, metrics in _read_cases(folder / evaluation / "cases.csv"):
            yield (*key, test, case, patients[test].get(case), organ, outcome, *metrics)


def _read_cases(path: Path) -> list[tuple[str, str, str, list[float]]]:
    """Case, organ, outcome and metrics of each row of an evaluation; NaN for a metric added after it was written."""
    metrics = list_case_metrics()
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.reader(file, strict=True)
            place = {column: index for index, column in enumerate(next(rows, []))}
            if missing := [column for column in ("case", "organ", "outcome", DICE.key) if column not in place]:
                raise ValueError(f"it has no column {missing[0]}")
            at = [place.get(name) for name in metrics]
            return [
                (
                    *(row[place["case"]], row[place["organ"]], row[place["outcome"]]),
                    [math.nan if i is None or not row[i] else float(row[i]) for i in at],
                )
                for row in rows
            ]
    except (OSError, ValueError, IndexError, csv.Error) as error:
        reason = str(error).splitlines()[0]
        raise RunError(
            f"{path} is damaged ({reason})", f"delete {path.with_name(SUMMARY)} and run the study again"
        ) from error


def write_tables(results: StudyResults, folder: Path) -> None:
    """Write trials.csv and cases.csv."""
    (folder / "cells.csv").unlink(missing_ok=True)  # the name of trials.csv in older versions
    for name, table in (("trials", results.trials), ("cases", results.cases)):
        with atomic_write(folder / f"{name}.csv", "w") as file:
            table.to_csv(file, index=False)
