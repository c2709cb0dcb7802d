"""A study's scores as (runs × patients) tables, and the figures of each group of runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import pandas as pd

from frugalseg.evaluation.metric_table import DICE, Metric, Place, list_metrics
from frugalseg.evaluation.policy import Outcome
from frugalseg.evaluation.statistics import RunSummary, summarise_runs
from frugalseg.studies.jobs.equivalent_runs import Run, pair_runs, standing_for
from frugalseg.studies.report.results import StudyResults, TestSet, case_metrics

TRIAL = ["method", "backbone", "budget", "draw", "seed"]
"""What names a trial."""
_GROUP, RUN = TRIAL[:3], TRIAL[3:]
"""What names a group, and a run of it."""


def metrics_of(test: TestSet) -> tuple[Metric, ...]:
    """The metrics that mean something on a test set."""
    return tuple(m for m in list_metrics(Place.STUDIES) if test.millimetres or not m.physical)


MARKS = {"transductive": "†", "uses_test_references": "‡", "external": "§"}
"""Column of `trials` that says something a reader must know of a method → its mark.

transductive: its pre-training saw scans of test patients, without their masks. uses_test_references: references of the
test scans gave it slices or boxes. external: another program made its masks.
"""
PRIVILEGES = ("transductive", "uses_test_references")
"""Those of methods that had more to go by than others."""


class Group(NamedTuple):
    """Runs that differ in the draw of the labels and the seed only."""

    method: str
    backbone: str
    budget: str


class Endpoint(NamedTuple):
    """What is measured: an organ on a test set."""

    test: TestSet
    organ: str


class Scores:
    """The scores of a study's finished runs.

    A run counts for a test set when every scan that any run was measured on has a score from it; runs that lack one
    are in `incomplete` and in no figure, for a mean over fewer scans is not the same mean. Several scans of a patient
    are averaged first, so that a patient counts once.

    Args:
        results: of the study.
        resamples, seed: of the bootstrap.
    """

    def __init__(self, results: StudyResults, resamples: int = 10_000, seed: int = 0) -> None:
        self.results = results
        self.resamples, self.seed = resamples, seed
        self.planned = {_group(key): len(rows) for key, rows in results.trials.groupby(_GROUP, sort=False)}
        self._trials = {_group(key): standing_for(rows) for key, rows in results.trials.groupby(_GROUP, sort=False)}
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
        for endpoint, frame in self._split(_of_done_trials(results)):
            self._add(endpoint, frame)

    def _split(self, cases: pd.DataFrame) -> Iterator[tuple[Endpoint, pd.DataFrame]]:
        for test in self.results.tests:
            of_test = cases[cases["test"] == test.name] if len(cases) else cases
            for organ in of_test["organ"].unique() if len(of_test) else ():
                yield Endpoint(test, str(organ)), of_test[of_test["organ"] == organ]

    def _add(self, endpoint: Endpoint, frame: pd.DataFrame) -> None:
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
        names = case_metrics()
        scores = frame.groupby([*TRIAL, "patient"])[names].mean()
        for key, rows in scores.groupby(level=_GROUP):
            of_runs = rows.reset_index(_GROUP, drop=True)
            self._tables[endpoint, _group(key)] = {
                name: of_runs[name].unstack("patient").reindex(columns=self._patients[endpoint]) for name in names
            }
        for key, outcomes in frame.groupby(_GROUP)["outcome"]:
            self._outcomes[endpoint, _group(key)] = Counter(outcomes)

    def groups(self) -> list[Group]:
        """Every planned group: backbones, then methods, then budgets, each in the plan's order."""
        r = self.results
        grid = (Group(m, b, u) for b in r.backbones for m in r.methods for u in r.budgets)
        return [group for group in grid if group in self.planned]

    def rows(self, backbone: str) -> list[str]:
        """The methods planned with a backbone."""
        return list(dict.fromkeys(g.method for g in self.groups() if g.backbone == backbone))

    def privileges(self, method: str) -> dict[str, bool]:
        """What a reader must know of a method: column of `MARKS` → whether it holds for any of its trials."""
        return {column: method in methods for column, methods in self._privileged.items()}

    def is_privileged(self, method: str) -> bool:
        """Whether a method had more to go by than the others, so that it competes for no place."""
        return any(self.privileges(method)[column] for column in PRIVILEGES)

    def marks(self, method: str) -> str:
        """The marks that say so behind its name."""
        return "".join(MARKS[column] for column, it_had in self.privileges(method).items() if it_had)

    def scans(self, endpoint: Endpoint) -> int:
        """Scans measured."""
        return self._scans[endpoint]

    def patients(self, endpoint: Endpoint) -> int:
        """Patients that these scans come from."""
        return len(self._patients[endpoint])

    def pairs(self, group: Group, other: Group) -> dict[tuple[Run, Run], Run]:
        """The planned runs of two groups that belong together, each pair once → their common (draw, seed)."""
        return pair_runs(self._trials.get(group, {}), self._trials.get(other, {}))

    def runs(self, endpoint: Endpoint, group: Group, metric: Metric) -> pd.DataFrame:
        """(runs, patients): a row a finished run (draw, seed), NaN where the empty-mask policy leaves a score out."""
        tables = self._tables.get((endpoint, group))
        if tables is None:
            runs = pd.MultiIndex.from_arrays([[], []], names=RUN)
            return pd.DataFrame(index=runs, columns=self._patients[endpoint], dtype=float)
        return tables[metric.key]

    def finished(self, endpoint: Endpoint, group: Group) -> int:
        """Runs of a group that count for a test set."""
        tables = self._tables.get((endpoint, group))
        return len(tables[DICE.key]) if tables else 0

    def complete(self, endpoint: Endpoint, group: Group) -> bool:
        """Whether all planned runs of a group count; so they do where none was planned."""
        return self.finished(endpoint, group) == self.planned.get(group, 0)

    def summary(self, endpoint: Endpoint, group: Group, metric: Metric) -> RunSummary:
        """Mean, spread over runs and intervals of a group."""
        key = (endpoint, group, metric.key)
        if key not in self._summaries:
            table = self.runs(endpoint, group, metric)
            self._summaries[key] = summarise_runs(
                table.to_numpy(), list(table.index), self.resamples, self.seed, metric.scale
            )
        return self._summaries[key]

    def missed(self, endpoint: Endpoint, group: Group) -> tuple[int, int]:
        """How often the organ was missed altogether, and in how many scans × runs it is there."""
        outcomes = self._outcomes.get((endpoint, group), Counter())
        missed = outcomes[Outcome.MISSED.value]
        return missed, missed + outcomes[Outcome.BOTH.value]


def _group(key: Any) -> Group:
    return Group(*(str(part) for part in key))


def _of_done_trials(results: StudyResults) -> pd.DataFrame:
    """The cases of trials that are done now; a case without a patient is a patient of its own."""
    cases, trials = results.cases, results.trials
    if not len(cases):
        return cases
    done = pd.MultiIndex.from_frame(trials.loc[trials["state"] == "done", TRIAL])
    cases = cases[pd.MultiIndex.from_frame(cases[TRIAL]).isin(done)]
    patient = cases["patient"].astype(object)
    named = patient.notna() & patient.ne("")
    return cases.assign(case=cases["case"].astype(str), patient=patient.where(named, cases["case"]).astype(str))
