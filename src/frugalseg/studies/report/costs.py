"""What a study used, and what is missing from it."""

from __future__ import annotations

from typing import Any

import pandas as pd

from frugalseg.studies.report.formatting import label, notes_of
from frugalseg.studies.report.scores import MARKS, TRIAL, Group, Scores
from frugalseg.studies.report.table import GAP, Entry, Section, Table
from frugalseg.text import pluralize


def cost_table(scores: Scores) -> Table:
    """What every method used: annotation, scans, minutes, parameters, device."""
    trials = scores.results.trials
    done = trials[trials["state"] == "done"]
    sections = []
    for backbone in scores.results.backbones:
        rows = tuple(
            (Entry(label(scores, group.method)), Entry(group.budget), *_cost_row(_trials_of(done, group)))
            for group in scores.groups()
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
        *(column for column, _, _ in COST),
    ]
    return Table(
        name="cost",
        title="What every method used",
        words=2,
        spans=(),
        columns=("Method", "Budget", *(heading for _, heading, _ in COST)),
        sections=tuple(sections),
        notes=notes_of(
            scores,
            "Of the finished runs; a range where draws differ. Masks are annotated slices. Validation masks come on "
            "top of the budget. Organ-present labels say for a slice whether it shows the organ, and are annotation "
            "too. Minutes are means; one pre-training may serve several budgets and draws, and its minutes stand at "
            "each of them. Slices of test scans: how many of them were annotated for the method; a dash where their "
            "references gave boxes.",
            *_nothing_unlabelled(scores, done),
            *_stated(scores),
        ),
        data=trials[keep],
    )


COST: tuple[tuple[str, str, int], ...] = (
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
    """What is missing and why: a row a failed or incomplete run, one for all waiting runs of a group; None without."""
    trials = scores.results.trials
    missing = trials.loc[trials["state"] != "done", [*TRIAL, "state", "error"]]
    every = pd.concat([missing, pd.DataFrame(scores.incomplete, columns=[*TRIAL, "state", "error"])], ignore_index=True)
    if not len(every):
        return None
    failed = every[every["state"].isin(["failed", "incomplete"])]
    others = every.drop(failed.index)
    rows = [
        _missing_row(scores, row, f"draw {row['draw']}, seed {row['seed']}", _first_line(row["error"]))
        for row in failed.to_dict("records")
    ]
    for _, group in others.groupby(["method", "backbone", "budget", "state"], sort=False):
        rows.append(_missing_row(scores, group.iloc[0].to_dict(), pluralize(len(group), "run"), GAP))
    return Table(
        name="missing-runs",
        title="Runs that are in no figure",
        words=6,
        spans=(),
        columns=("Method", "Backbone", "Budget", "Run", "State", "Reason"),
        sections=(Section("", tuple(rows)),),
        notes=notes_of(scores, "Incomplete: the model is finished, but a scan of the test set has no score from it."),
        data=every,
    )


def _nothing_unlabelled(scores: Scores, done: pd.DataFrame) -> list[str]:
    """Says which methods asked for unlabelled slices where there were none left: they are then plain trainings."""
    plain = done[done["semi"].isin(["self-training", "mean-teacher"]) & done["unlabelled_slices"].eq(0)]
    places = {
        f"{label(scores, str(method))} at {budget} ({semi})": True
        for method, budget, semi in zip(plain["method"], plain["budget"], plain["semi"], strict=True)
    }
    if not places:
        return []
    return [f"No slice was left unlabelled, so these were trained on masks alone: {', '.join(places)}."]


def _stated(scores: Scores) -> list[str]:
    """What the plan states of methods whose masks another program made."""
    external = scores.results.trials[scores.results.trials["external"].eq(True)]
    stated = dict(zip(external["method"], external["annotation"], strict=True))
    return [
        f"{label(scores, str(method))} was given, as the plan states it: {text}." for method, text in stated.items()
    ]


def _cost_row(trials: pd.DataFrame) -> list[Entry]:
    return [Entry(_spent(trials[column], digits, "minutes" in column)) for column, _, digits in COST]


def _spent(values: pd.Series[Any], digits: int, averaged: bool) -> str:
    """One value for all runs: their mean, or the range they lie in, or the names there are."""
    values = values[values.notna() & values.ne("")]
    if not len(values):
        return GAP
    numbers = pd.to_numeric(values, errors="coerce")
    if numbers.isna().any():
        return ", ".join(dict.fromkeys(str(value) for value in values))
    if averaged:
        return f"{numbers.mean():.{digits}f}"
    low, high = f"{numbers.min():,.{digits}f}", f"{numbers.max():,.{digits}f}"
    return low if low == high else f"{low} – {high}"


def _trials_of(trials: pd.DataFrame, group: Group) -> pd.DataFrame:
    wanted = (trials["method"] == group.method) & (trials["backbone"] == group.backbone)
    return trials[wanted & (trials["budget"] == group.budget)]


def _missing_row(scores: Scores, row: dict[Any, Any], run: str, reason: str) -> tuple[Entry, ...]:
    name = label(scores, str(row["method"]))
    return tuple(Entry(str(part)) for part in (name, row["backbone"], row["budget"], run, row["state"], reason))


def _first_line(error: object) -> str:
    lines = error.strip().splitlines() if isinstance(error, str) else []
    return lines[0] if lines else GAP
