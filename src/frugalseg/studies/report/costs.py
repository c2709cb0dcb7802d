"""The annotation, time and hardware that a study used, and the runs that are missing from it."""

from __future__ import annotations

from typing import Any

import pandas as pd

from frugalseg.studies.report.formatting import format_method, make_notes
from frugalseg.studies.report.scores import MARKS, TRIAL, Group, Scores
from frugalseg.studies.report.table import NO_VALUE, Section, Table, TableCell
from frugalseg.text import pluralize


def cost_table(scores: Scores) -> Table:
    """The table of what every method used: annotation, scans, minutes, parameters, device."""
    trials = scores.results.trials
    done = trials[trials["state"] == "done"]
    sections = []
    for backbone in scores.results.backbones:
        rows = tuple(
            (
                TableCell(format_method(scores, group.method)),
                TableCell(group.budget),
                *_make_cost_row(_select_trials(done, group)),
            )
            for group in scores.list_groups()
            if group.backbone == backbone
        )
        if rows:
            sections.append(Section(backbone, rows))
    keep = [
        *TRIAL,
        "draws",
        "seeds",
        "state",
        *MARKS,
        "annotation",
        "semi",
        "unlabelled_slices",
        *(column for column, _, _ in COST_COLUMNS),
    ]
    return Table(
        name="cost",
        title="What every method used",
        words=2,
        spans=(),
        columns=("Method", "Budget", *(heading for _, heading, _ in COST_COLUMNS)),
        sections=tuple(sections),
        notes=make_notes(
            scores,
            "Of the finished runs; a range where draws differ. Masks are annotated slices. Validation masks are not "
            "part of the budget. Image-level labels state whether a slice shows the organ; they are annotation, too. "
            "Minutes are means; a pre-training that is shared by several budgets and draws is counted at each of "
            "them. Slices of test scans: number of slices whose references the method used; a dash where it used "
            "boxes of all references.",
            *_note_no_unlabelled(scores, done),
            *_note_stated_annotation(scores),
        ),
        data=trials[keep],
    )


COST_COLUMNS: tuple[tuple[str, str, int], ...] = (
    ("masks", "Masks", 0),
    ("mask_scans", "from scans", 0),
    ("validation_masks", "Validation masks", 0),
    ("validation_scans", "from validation scans", 0),
    ("organ_present_labels", "Image-level labels", 0),
    ("unlabelled_scans", "Unlabelled scans", 0),
    ("pretrain_scans", "Pre-training scans", 0),
    ("pretrain_minutes", "Pre-training, min", 1),
    ("finetune_minutes", "Fine-tuning, min", 1),
    ("parameters", "Parameters", 0),
    ("test_slices", "Slices of test scans", 0),
    ("device", "Device", 0),
)
"""Column of trials.csv, heading, decimals."""


def missing_runs_table(scores: Scores) -> Table | None:
    """The table of missing runs and the reasons, or None if no run is missing.

    Failed and incomplete runs have a row each; running and waiting ones have one row per group and state.
    """
    trials = scores.results.trials
    missing = trials.loc[trials["state"] != "done", [*TRIAL, "state", "error"]]
    every = pd.concat([missing, pd.DataFrame(scores.incomplete, columns=[*TRIAL, "state", "error"])], ignore_index=True)
    if not len(every):
        return None
    failed = every[every["state"].isin(["failed", "incomplete"])]
    others = every.drop(failed.index)
    rows = [
        _make_missing_row(scores, row, f"draw {row['draw']}, seed {row['seed']}", _first_line(row["error"]))
        for row in failed.to_dict("records")
    ]
    for _, group in others.groupby(["method", "backbone", "budget", "state"], sort=False):
        rows.append(_make_missing_row(scores, group.iloc[0].to_dict(), pluralize(len(group), "run"), NO_VALUE))
    return Table(
        name="missing-runs",
        title="Runs that are not included in the results",
        words=6,
        spans=(),
        columns=("Method", "Backbone", "Budget", "Run", "State", "Reason"),
        sections=(Section("", tuple(rows)),),
        notes=make_notes(scores, "Incomplete: the model is finished, but a scan of the test set has no score."),
        data=every,
    )


def _note_no_unlabelled(scores: Scores, done: pd.DataFrame) -> list[str]:
    """A note on methods that use unlabelled slices but found none left, and so were trained on masks alone."""
    plain = done[done["semi"].isin(["self-training", "mean-teacher"]) & done["unlabelled_slices"].eq(0)]
    places = {
        f"{format_method(scores, str(method))} at {budget} ({semi})": True
        for method, budget, semi in zip(plain["method"], plain["budget"], plain["semi"], strict=True)
    }
    if not places:
        return []
    return [f"Trained on masks alone, since no slice was left unlabelled: {', '.join(places)}."]


def _note_stated_annotation(scores: Scores) -> list[str]:
    """Notes on the training annotation of methods whose masks another program made."""
    external = scores.results.trials[scores.results.trials["external"].eq(True)]
    stated = dict(zip(external["method"], external["annotation"], strict=True))
    return [
        f"{format_method(scores, str(method))}: annotation as stated in the plan: {text}."
        for method, text in stated.items()
    ]


def _make_cost_row(trials: pd.DataFrame) -> list[TableCell]:
    return [
        TableCell(_format_values(trials[column], digits, "minutes" in column)) for column, _, digits in COST_COLUMNS
    ]


def _format_values(values: pd.Series[Any], digits: int, averaged: bool) -> str:
    """The values of all runs as text: their mean, their range, or their different names."""
    values = values[values.notna() & values.ne("")]
    if not len(values):
        return NO_VALUE
    numbers = pd.to_numeric(values, errors="coerce")
    if numbers.isna().any():
        return ", ".join(dict.fromkeys(str(value) for value in values))
    if averaged:
        return f"{numbers.mean():.{digits}f}"
    low, high = f"{numbers.min():,.{digits}f}", f"{numbers.max():,.{digits}f}"
    return low if low == high else f"{low} – {high}"


def _select_trials(trials: pd.DataFrame, group: Group) -> pd.DataFrame:
    wanted = (trials["method"] == group.method) & (trials["backbone"] == group.backbone)
    return trials[wanted & (trials["budget"] == group.budget)]


def _make_missing_row(scores: Scores, row: dict[Any, Any], run: str, reason: str) -> tuple[TableCell, ...]:
    name = format_method(scores, str(row["method"]))
    return tuple(TableCell(str(part)) for part in (name, row["backbone"], row["budget"], run, row["state"], reason))


def _first_line(error: object) -> str:
    lines = error.strip().splitlines() if isinstance(error, str) else []
    return lines[0] if lines else NO_VALUE
