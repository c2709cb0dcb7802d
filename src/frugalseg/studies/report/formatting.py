"""What the tables, charts and sentences of a study have in common: names, marks, numbers as text."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable

from frugalseg.evaluation.statistics import Interval, RunSummary
from frugalseg.studies.jobs.equivalent_runs import told_once
from frugalseg.studies.report.scores import MARKS, Endpoint, Group, Scores
from frugalseg.studies.report.table import GAP
from frugalseg.text import format_number, pluralize

MEANING = {
    MARKS["transductive"]: "transductive: its pre-training saw the scans of test patients, without masks or labels "
    "made of them; beside methods that did not see them, it is not ranked.",
    MARKS["uses_test_references"]: "uses test references: references of the test scans themselves gave it annotated "
    "slices (which are then left out of its scores, so these are of fewer slices than those of the others) or boxes. "
    "That is another task, or an oracle; it competes for no best or second place.",
    MARKS[
        "external"
    ]: "external: another program made these masks. What it was trained on is stated by the plan; it was "
    "not checked, and there is one run.",
}
"""What a mark behind a method's name says."""


def label(scores: Scores, method: str) -> str:
    """A method's name, with its marks."""
    return method + scores.marks(method)


def describe(scores: Scores, endpoint: Endpoint) -> str:
    """A test set and how much was measured of it."""
    scans, patients, all_scans = scores.scans(endpoint), scores.patients(endpoint), endpoint.test.scans
    text = ("" if scans == all_scans else f"{scans} of ") + pluralize(all_scans, "scan")
    if patients != scans:
        text += f" of {pluralize(patients, 'patient')}"
    return f"{endpoint.test.name} ({text})"


def runs_note(scores: Scores, endpoint: Endpoint, group: Group, summary: RunSummary) -> str:
    """Says so where runs are missing, or where finished runs have no value of this metric."""
    planned, finished = scores.planned.get(group, 0), scores.finished(endpoint, group)
    if finished < planned:
        return f"{finished} of {pluralize(planned, 'run')}"
    return f"a value in {summary.runs} of {pluralize(finished, 'run')}" if summary.runs < finished else ""


def interval_text(interval: Interval, digits: int, usual: str, sign: bool = False) -> str:
    """An interval in square brackets, with its kind where that is not the `usual` one; why, where there is none."""
    if interval.limits is None:
        return interval.kind
    low, high = (format_number(limit, digits, sign) for limit in interval.limits)
    return f"[{low}, {high}]" + (f" {interval.kind}" if interval.kind != usual else "")


def usual_kind(intervals: Iterable[Interval]) -> str:
    """The kind that most of the intervals have; empty where there is none."""
    kinds = Counter(interval.kind for interval in intervals if interval.limits)
    return kinds.most_common(1)[0][0] if kinds else ""


def usual_note(usual: str) -> str:
    """Says what kind the intervals of a table have that say nothing themselves."""
    return f" Unless stated otherwise: {usual}." if usual else ""


def p_text(p: float) -> str:
    """A p-value with three decimals; a dash where nothing could be tested."""
    if math.isnan(p):
        return GAP
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def summary_record(summary: RunSummary, name: str) -> dict[str, object]:
    """A summary as columns of a CSV; `name` is what its mean is called there."""
    record: dict[str, object] = {"patients": summary.patients, name: summary.mean, "sd_runs": summary.sd}
    for key, interval in (("ci95", summary.ci95), ("ci95_runs", summary.ci95_runs)):
        record[f"{key}_low"], record[f"{key}_high"] = interval.limits or (math.nan, math.nan)
        record[f"{key}_kind"] = interval.kind
    return record


def sections_of(scores: Scores) -> list[tuple[str, str]]:
    """The (backbone, budget) pairs that were planned, in the plan's order."""
    r = scores.results
    grid = [(backbone, budget) for backbone in r.backbones for budget in r.budgets]
    planned = {(group.backbone, group.budget) for group in scores.planned}
    return [section for section in grid if section in planned]


def notes_of(scores: Scores, *notes: str) -> tuple[str, ...]:
    """The notes, which draws and seeds are one run, and what the marks mean that methods have."""
    return (*notes, *told_once(scores.results.trials), *meanings(scores))


def meanings(scores: Scores) -> list[str]:
    """The marks that methods have, with what each means."""
    marks = {mark for method in scores.results.methods for mark in scores.marks(method)}
    return [f"{mark} {meaning}" for mark, meaning in MEANING.items() if mark in marks]


def file_name(name: str) -> str:
    """A file's name made of what people called things."""
    return re.sub(r"[^\w.-]+", "-", name.replace("%", " percent")).strip("-.")  # % would end a line of LaTeX
