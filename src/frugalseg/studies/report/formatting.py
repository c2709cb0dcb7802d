"""Names, marks, intervals and numbers as text, for the tables, charts and sentences of a study."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable

from frugalseg.evaluation.statistics import Interval, RunSummary
from frugalseg.studies.jobs.equivalent_runs import describe_equivalent_runs
from frugalseg.studies.report.scores import MARKS, Endpoint, Group, Scores
from frugalseg.studies.report.table import NO_VALUE
from frugalseg.text import format_number, pluralize

MEANING = {
    MARKS["transductive"]: "transductive: its pre-training used the scans of test patients, without masks or labels "
    "derived from masks; it is not ranked with methods that did not use them.",
    MARKS["uses_test_references"]: "uses test references: it takes annotated slices or boxes from references of the "
    "test scans (annotated slices are left out of its scores, which are then over fewer slices than those of the "
    "other methods). This is another task, or an oracle; it is not ranked with the others.",
    MARKS["external"]: "external: another program made these masks. Its training annotation is stated by the plan and "
    "was not verified; there is one run.",
}
"""Mark behind a method's name → its meaning."""


def format_method(scores: Scores, method: str) -> str:
    """A method's name, with its marks."""
    return method + scores.marks(method)


def describe_endpoint(scores: Scores, endpoint: Endpoint) -> str:
    """A test set with the number of scans and patients measured."""
    scans, patients, all_scans = scores.count_scans(endpoint), scores.count_patients(endpoint), endpoint.test.scans
    text = ("" if scans == all_scans else f"{scans} of ") + pluralize(all_scans, "scan")
    if patients != scans:
        text += f" of {pluralize(patients, 'patient')}"
    return f"{endpoint.test.name} ({text})"


def format_missing_runs(scores: Scores, endpoint: Endpoint, group: Group, summary: RunSummary) -> str:
    """A note on missing runs, or on finished runs without a value of this metric; else empty."""
    planned, finished = scores.planned.get(group, 0), scores.count_finished(endpoint, group)
    if finished < planned:
        return f"{finished} of {pluralize(planned, 'run')}"
    return f"a value in {summary.runs} of {pluralize(finished, 'run')}" if summary.runs < finished else ""


def format_interval(interval: Interval, digits: int, usual: str, sign: bool = False) -> str:
    """An interval in square brackets, with its kind unless it is the `usual` one; without limits, the reason."""
    if interval.limits is None:
        return interval.kind
    low, high = (format_number(limit, digits, sign) for limit in interval.limits)
    return f"[{low}, {high}]" + (f" {interval.kind}" if interval.kind != usual else "")


def find_usual_kind(intervals: Iterable[Interval]) -> str:
    """The most frequent kind of the intervals; empty if there is none."""
    kinds = Counter(interval.kind for interval in intervals if interval.limits)
    return kinds.most_common(1)[0][0] if kinds else ""


def format_usual_kind(usual: str) -> str:
    """A sentence on the kind of all intervals of a table that do not state theirs."""
    return f" Unless stated otherwise: {usual}." if usual else ""


def format_p(p: float) -> str:
    """A p-value with three decimals; a dash if nothing could be tested."""
    if math.isnan(p):
        return NO_VALUE
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def summary_to_dict(summary: RunSummary, name: str) -> dict[str, object]:
    """A summary as columns of a CSV; `name` is the column of its mean."""
    record: dict[str, object] = {"patients": summary.patients, name: summary.mean, "sd_runs": summary.sd}
    for key, interval in (("ci95", summary.ci95), ("ci95_runs", summary.ci95_runs)):
        record[f"{key}_low"], record[f"{key}_high"] = interval.limits or (math.nan, math.nan)
        record[f"{key}_kind"] = interval.kind
    return record


def list_sections(scores: Scores) -> list[tuple[str, str]]:
    """The (backbone, budget) pairs that were planned, in the plan's order."""
    r = scores.results
    grid = [(backbone, budget) for backbone in r.backbones for budget in r.budgets]
    planned = {(group.backbone, group.budget) for group in scores.planned}
    return [section for section in grid if section in planned]


def make_notes(scores: Scores, *notes: str) -> tuple[str, ...]:
    """The notes, followed by those on equivalent runs and by the meanings of the marks."""
    return (*notes, *describe_equivalent_runs(scores.results.trials), *explain_marks(scores))


def explain_marks(scores: Scores) -> list[str]:
    """The marks of the study's methods, each with its meaning."""
    marks = {mark for method in scores.results.methods for mark in scores.marks(method)}
    return [f"{mark} {meaning}" for mark, meaning in MEANING.items() if mark in marks]


def to_file_name(name: str) -> str:
    """A text as a file name."""
    return re.sub(r"[^\w.-]+", "-", name.replace("%", " percent")).strip("-.")  # % would end a line of LaTeX
