"""Coverage of 95% intervals of a mean with few patients and few runs, for several kinds of interval.

    python benchmarks/interval_coverage.py [--repeats 2000] [--seed 0] [--out docs/explanation/tables/coverage]

Prints the tables of docs/reference/statistics.md. `rule` is the interval that `evaluate` and `study` print.
"""

from __future__ import annotations

import argparse
import csv
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table
from scipy import stats

from frugalseg.evaluation.statistics import CONFIDENCE_LEVEL, bca_limits, crossed_interval, mean_interval, t_limits

Floats = npt.NDArray[np.float64]
Rng = np.random.Generator
Limits = tuple[float, float]

PATIENTS = (2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 30, 50)
RESAMPLES = 1000
TAIL = 50 * (1 - CONFIDENCE_LEVEL)


@dataclass(frozen=True)
class Population:
    """A distribution of scores, and its true mean."""

    name: str
    draw: Callable[[Rng, int], Floats]
    mean: float


def with_failures(rng: Rng, n: int) -> Floats:
    """Nine of ten patients have a Dice around 0.9, one of ten around 0.33."""
    return np.where(rng.random(n) < 0.1, rng.beta(2, 4, n), rng.beta(36, 4, n))


POPULATIONS = (
    Population("normal", lambda rng, n: rng.normal(0.9, 0.03, n), 0.9),
    Population("Dice, Beta(18, 2)", lambda rng, n: rng.beta(18, 2, n), 0.9),
    Population("one in ten fails", with_failures, 0.9 * 0.9 + 0.1 / 3),
)


def percentile(values: Floats) -> Limits:
    """The percentile bootstrap (Efron & Tibshirani 1993, chapter 13), which frugalseg used before."""
    rng = np.random.default_rng(0)
    means = values[rng.integers(values.size, size=(RESAMPLES, values.size))].mean(axis=1)
    low, high = np.percentile(means, [TAIL, 100 - TAIL])
    return float(low), float(high)


def rule(values: Floats) -> Limits:
    """The interval over patients that is printed."""
    limits = mean_interval(values, RESAMPLES).limits
    assert limits is not None
    return limits


WAYS: dict[str, Callable[[Floats], Limits]] = {
    "percentile bootstrap": percentile,
    "BCa bootstrap": lambda values: bca_limits(values, RESAMPLES, 0),
    "t": lambda values: t_limits(float(values.mean()), [values]),
    "rule": rule,
}


def share_held(intervals: Iterator[Limits], truth: float) -> float:
    """Fraction of the intervals that contain the true mean, 0…1."""
    return float(np.mean([low <= truth <= high for low, high in intervals]))


def patients_table(repeats: int, seed: int) -> Iterator[Sequence[str]]:
    """Rows of (patients, each population): coverage of each of `WAYS`."""
    yield ("patients", *(population.name for population in POPULATIONS))
    for n in PATIENTS:
        row = [str(n)]
        for population in POPULATIONS:
            rng = np.random.default_rng([seed, n])
            samples = [population.draw(rng, n) for _ in range(repeats)]
            row.append(" / ".join(f"{share_held(map(way, samples), population.mean):.2f}" for way in WAYS.values()))
        yield row


@dataclass(frozen=True)
class Design:
    """A study: the number of draws, seeds and patients, and the standard deviations of their effects."""

    draws: int
    seeds: int
    patients: int
    sd_draws: float = 0.02
    sd_seeds: float = 0.01
    sd_patients: float = 0.02
    sd_rest: float = 0.02

    def scores(self, rng: Rng) -> Floats:
        """(runs, patients) scores whose true mean is 0."""
        shapes = (
            (self.draws, 1, 1),
            (1, self.seeds, 1),
            (1, 1, self.patients),
            (self.draws, self.seeds, self.patients),
        )
        spreads = (self.sd_draws, self.sd_seeds, self.sd_patients, self.sd_rest)
        parts = [rng.normal(0, sd, shape) for sd, shape in zip(spreads, shapes, strict=True)]
        full: Floats = sum(parts, np.zeros(shapes[-1]))
        return full.reshape(-1, self.patients)

    @property
    def runs(self) -> list[tuple[int, int]]:
        """The (draw, seed) of each row."""
        return list(product(range(self.draws), range(self.seeds)))


DESIGNS = (
    Design(2, 3, 4),
    Design(2, 3, 6),
    Design(2, 3, 12),
    Design(2, 3, 30),
    Design(2, 3, 12, sd_draws=0.005),
    Design(2, 3, 12, sd_draws=0.06),
    Design(3, 3, 4),
    Design(3, 3, 12),
    Design(5, 5, 12),
    Design(5, 1, 12),
    Design(1, 3, 12),
)


def pigeonhole(scores: Floats, runs: Sequence[tuple[int, int]]) -> Limits:
    """Draws, seeds and patients resampled, each independently of the others (Owen 2007), as frugalseg did before."""
    rng = np.random.default_rng(0)
    weights = np.ones((RESAMPLES, len(runs)))
    for factor in (0, 1):
        names, of_run = np.unique([run[factor] for run in runs], return_inverse=True)
        weights *= rng.multinomial(len(names), [1 / len(names)] * len(names), size=RESAMPLES)[:, of_run]
    n = scores.shape[1]
    patients = rng.multinomial(n, [1 / n] * n, size=RESAMPLES)
    means = ((weights @ scores) * patients).sum(axis=1) / (weights.sum(axis=1) * n)
    low, high = np.percentile(means, [TAIL, 100 - TAIL])
    return float(low), float(high)


def printed(scores: Floats, runs: Sequence[tuple[int, int]]) -> Limits:
    """The interval over runs and patients that is printed."""
    limits = crossed_interval(scores, runs).limits
    assert limits is not None
    return limits


def independent(scores: Floats, runs: Sequence[tuple[int, int]]) -> Limits:
    """The same, treating all runs as independent: each has another seed."""
    return printed(scores, [(0, i) for i in range(len(runs))])


def runs_table(repeats: int, seed: int) -> Iterator[Sequence[str]]:
    """Rows of (design, coverage of each kind of interval, median width of the printed one)."""
    yield ("draws × seeds × patients", "SD of draws", "resampled", "runs as independent", "rule", "rule, median width")
    for index, design in enumerate(DESIGNS):
        rng = np.random.default_rng([seed, index])
        samples = [design.scores(rng) for _ in range(repeats)]
        shares = [share_held((way(s, design.runs) for s in samples), 0.0) for way in (pigeonhole, independent, printed)]
        width = np.median([high - low for low, high in (printed(s, design.runs) for s in samples)])
        name = f"{design.draws} × {design.seeds} × {design.patients}"
        yield (name, f"{design.sd_draws:g}", *(f"{share:.2f}" for share in shares), f"{width:.3f}")


TABLES = {"patients": patients_table, "runs": runs_table}


def main() -> None:
    """Print both tables, and write them as CSV."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder for patients.csv and runs.csv")
    given = parser.parse_args()
    warnings.simplefilter("ignore", stats.DegenerateDataWarning)
    print(f"fraction of intervals that contain the true mean: {' / '.join(WAYS)}")
    for name, table in TABLES.items():
        rows = list(table(given.repeats, given.seed))
        show(name, rows)
        if given.out:
            with (given.out / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
                csv.writer(file, lineterminator="\n").writerows(rows)


def show(title: str, rows: Sequence[Sequence[str]]) -> None:
    """Print a table."""
    table = Table(*rows[0], title=title, title_justify="left")
    for row in rows[1:]:
        table.add_row(*row)
    Console().print(table)


if __name__ == "__main__":
    main()
