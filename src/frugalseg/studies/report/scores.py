"""A study's scores as (runs × patients) tables, and the figures of each group of runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import pandas as pd

from frugalseg.evaluation.metric_table import DICE, Metric, Place, list_metrics
from frugalseg.evaluation.policy import Outcome
from frugalseg.evaluation.statistics import Run, RunSummary, summarise_runs
from frugalseg.studies.jobs.equivalent_runs import map_runs_to_trials, pair_runs
from frugalseg.studies.report.results import TRIAL_KEYS, StudyResults, TestSet, list_case_metrics

TRIAL = list(TRIAL_KEYS)
"""Columns that name a trial; a list, as pandas needs it."""
_GROUP, RUN = TRIAL[:3], TRIAL[3:]
"""Columns that name a group, and a run in it."""


def list_test_metrics(test: TestSet) -> tuple[Metric, ...]:
    """The metrics that are valid on a test set."""
    return tuple(m for m in list_metrics(Place.STUDIES) if test.millimetres or not m.physical)


MARKS = {"transductive": "†", "uses_test_references": "‡", "external": "§"}
"""Column of `trials` with a property of the method that readers must know → its mark.

transductive: its pre-training used scans of test patients, without their masks. uses_test_references: it takes slices
or boxes from references of the test scans. external: another program made its masks.
"""
PRIVILEGES = ("transductive", "uses_test_references")
"""The properties of methods that used more information than the others."""


class Group(NamedTuple):
    """The runs of a method that differ only in the draw of the labels and the seed."""

    method: str
    backbone: str
    budget: str


class Endpoint(NamedTuple):
    """An organ on a test set."""

    test: TestSet
    organ: str


class Scores:
    """The scores of a study's finished runs.

    A run counts for a test set if it has a score for every scan on which any run was measured. Other runs are listed in
    `incomplete` and left out of all figures, since means over different scans are not comparable. Scans of the same
    patient are averaged first, so that each patient counts once.

    Args:
        results: of the study.
        resamples, seed: of the bootstrap.
    """

    def __init__(self, results: StudyResults, resamples: int = 10_000, seed: int = 0) -> None:
        self.results = results
        self.resamples, self.seed = resamples, seed
        self.planned = {_to_group(key): len(rows) for key, rows in results.trials.groupby(_GROUP, sort=False)}
        self._trials = {
            _to_group(key): map_runs_to_trials(rows) for key, rows in results.trials.groupby(_GROUP, sort=False)
        }
        self._privileged = {
            column: frozenset(results.trials.loc[results.trials[column].eq(True), "method"]) for column in MARKS
        }
        self.endpoints: list[Endpoint] = []
        self.incomplete: list[dict[str, object]] = []
        self._tables: dict[tuple[Endpoint, Group], dict[str, pd.DataFrame]] = {}
        self._outcomes: dict[tuple[Endpoint, Group], Counter[str]] = {}
        self._patients: dict[Endpoint, list[str]] = {}
        self._scans: dict[Endpoint, int] = {}
        self._summaries: dict[tuple[Endpoint, Group, str], RunSummary] = {}
        for endpoint, frame in self._split_by_endpoint(_select_done_cases(results)):
            self._add_endpoint(endpoint, frame)

    def _split_by_endpoint(self, cases: pd.DataFrame) -> Iterator[tuple[Endpoint, pd.DataFrame]]:
        for test in self.results.tests:
            of_test = cases[cases["test"] == test.name] if len(cases) else cases
            for organ in of_test["organ"].unique() if len(of_test) else ():
                yield Endpoint(test, str(organ)), of_test[of_test["organ"] == organ]

    def _add_endpoint(self, endpoint: Endpoint, frame: pd.DataFrame) -> None:
        self.endpoints.append(endpoint)
        self._patients[endpoint] = sorted(frame["patient"].unique())
        self._scans[endpoint] = scans = int(frame["case"].nunique())
        measured = frame.groupby(TRIAL, sort=False)["case"].nunique()
        for trial, count in measured[measured < scans].items():
            assert isinstance(trial, tuple)
            note = f"{endpoint.test.name}, {endpoint.organ}: {count} of {scans} scans measured"
            self.incomplete.append(dict(zip(TRIAL, trial, strict=True)) | {"state": "incomplete", "error": note})
        whole = measured[measured == scans].index
        frame = frame[pd.MultiIndex.from_frame(frame[TRIAL]).isin(whole)]
        names = list_case_metrics()
        scores = frame.groupby([*TRIAL, "patient"])[names].mean()
        for key, rows in scores.groupby(level=_GROUP):
            of_runs = rows.reset_index(_GROUP, drop=True)
            self._tables[endpoint, _to_group(key)] = {
                name: of_runs[name].unstack("patient").reindex(columns=self._patients[endpoint]) for name in names
            }
        for key, outcomes in frame.groupby(_GROUP)["outcome"]:
            self._outcomes[endpoint, _to_group(key)] = Counter(outcomes)

    def list_groups(self) -> list[Group]:
        """Every planned group: backbones, then methods, then budgets, each in the plan's order."""
        r = self.results
        grid = (Group(m, b, u) for b in r.backbones for m in r.methods for u in r.budgets)
        return [group for group in grid if group in self.planned]

    def list_methods(self, backbone: str) -> list[str]:
        """The methods planned with a backbone."""
        return list(dict.fromkeys(g.method for g in self.list_groups() if g.backbone == backbone))

    def privileges(self, method: str) -> dict[str, bool]:
        """The marked properties of a method: column of `MARKS` → whether it applies to any of its trials."""
        return {column: method in methods for column, methods in self._privileged.items()}

    def is_privileged(self, method: str) -> bool:
        """Whether a method used more information than the others, so that it is not ranked."""
        return any(self.privileges(method)[column] for column in PRIVILEGES)

    def marks(self, method: str) -> str:
        """The marks behind a method's name."""
        return "".join(MARKS[column] for column, applies in self.privileges(method).items() if applies)

    def count_scans(self, endpoint: Endpoint) -> int:
        """Number of scans measured."""
        return self._scans[endpoint]

    def count_patients(self, endpoint: Endpoint) -> int:
        """Number of patients of these scans."""
        return len(self._patients[endpoint])

    def pair_runs(self, group: Group, other: Group) -> dict[tuple[Run, Run], Run]:
        """The pairs of planned runs of two groups that have a (draw, seed) in common, each once → the first such."""
        return pair_runs(self._trials.get(group, {}), self._trials.get(other, {}))

    def run_scores(self, endpoint: Endpoint, group: Group, metric: Metric) -> pd.DataFrame:
        """(runs, patients): one row per finished run (draw, seed); NaN where the empty-mask policy leaves it out."""
        tables = self._tables.get((endpoint, group))
        if tables is None:
            runs = pd.MultiIndex.from_arrays([[], []], names=RUN)
            return pd.DataFrame(index=runs, columns=self._patients[endpoint], dtype=float)
        return tables[metric.key]

    def count_finished(self, endpoint: Endpoint, group: Group) -> int:
        """Number of runs of a group that count for a test set."""
        tables = self._tables.get((endpoint, group))
        return len(tables[DICE.key]) if tables else 0

    def is_complete(self, endpoint: Endpoint, group: Group) -> bool:
        """Whether all planned runs of a group count; true if none was planned."""
        return self.count_finished(endpoint, group) == self.planned.get(group, 0)

    def summarise(self, endpoint: Endpoint, group: Group, metric: Metric) -> RunSummary:
        """Mean, spread over runs and intervals of a group."""
        key = (endpoint, group, metric.key)
        if key not in self._summaries:
            table = self.run_scores(endpoint, group, metric)
            self._summaries[key] = summarise_runs(
                table.to_numpy(), list(table.index), self.resamples, self.seed, metric.scale
            )
        return self._summaries[key]

    def count_missed(self, endpoint: Endpoint, group: Group) -> tuple[int, int]:
        """The number of scans × runs in which the organ was missed completely, and in which it is present."""
        outcomes = self._outcomes.get((endpoint, group), Counter())
        missed = outcomes[Outcome.MISSED.value]
        return missed, missed + outcomes[Outcome.BOTH.value]


def _to_group(key: Any) -> Group:
    return Group(*(str(part) for part in key))


def _select_done_cases(results: StudyResults) -> pd.DataFrame:
    """The cases of finished trials; a case without a patient counts as a separate patient."""
    cases, trials = results.cases, results.trials
    if not len(cases):
        return cases
    done = pd.MultiIndex.from_frame(trials.loc[trials["state"] == "done", TRIAL])
    cases = cases[pd.MultiIndex.from_frame(cases[TRIAL]).isin(done)]
    patient = cases["patient"].astype(object)
    named = patient.notna() & patient.ne("")
    return cases.assign(case=cases["case"].astype(str), patient=patient.where(named, cases["case"]).astype(str))
