"""Generate the documentation's tables from the CSV files in docs/explanation/tables/, the table of metrics
and the results of commands.

    python benchmarks/doc_tables.py [--check]

In a page, everything between `<!-- table: NAME -->` and `<!-- end -->` is replaced by the table. NAME is one of
`TABLES`, or a CSV file without its suffix, which is shown unchanged. `--check` writes nothing and fails if a page
differs; tests/test_docs.py does the same.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import pandas as pd
from docstring_parser import parse_from_object

from frugalseg.commands.result_records import __name__ as RESULTS_MODULE
from frugalseg.commands.results import RESULTS
from frugalseg.evaluation.metric_table import DICE, METRICS, group_by_rules
from frugalseg.evaluation.policy import OUTCOMES, Outcome
from frugalseg.evaluation.statistics import UNBOUNDED, holm, mean_interval, signed_rank
from frugalseg.text import format_number

DOCS = Path(__file__).resolve().parents[1] / "docs"
FILES = DOCS / "explanation" / "tables"
MARKED = re.compile(r"(<!-- table: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)

BEFORE = "before"
"""Way of a benchmark's case that ran on the code of an earlier commit."""
UNITS = {"s": 1.0, "ms": 1e-3, "µs": 1e-6}

Rows = list[list[str]]
"""The header row, then the rows."""


def read_table(name: str) -> pd.DataFrame:
    """A CSV file in `FILES`, by its path without the suffix."""
    return pd.read_csv(FILES / f"{name}.csv")


def read_rows(name: str) -> Rows:
    """The unchanged cells of a CSV file in `FILES`, by its path without the suffix."""
    with (FILES / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def format_mean_sd(row: pd.Series, mean: str, sign: bool = False) -> str:
    """Mean ± SD of the runs; only the mean for a single run."""
    text = format_number(row[mean], 3, sign)
    return text if pd.isna(row["sd_runs"]) else f"{text} ± {format_number(row['sd_runs'], 3)}"


def format_mean_and_runs(row: pd.Series) -> str:
    """Mean ± SD of the runs (number of runs)."""
    return f"{format_mean_sd(row, 'mean')} ({row['runs']})"


def format_difference(row: pd.Series) -> str:
    """Difference ± SD of the runs."""
    return format_mean_sd(row, "difference", sign=True)


def format_difference_and_p(row: pd.Series) -> str:
    """Difference ± SD of the runs; p uncorrected / after Holm's correction."""
    return f"{format_difference(row)}; {row['p']:.4f} / {row['p_holm']:.3f}"


def tabulate_by_budget(files: Mapping[str, str], show: Callable[[pd.Series], str], budgets: Mapping[str, str]) -> Rows:
    """One row per measured method, one column per file and budget.

    Args:
        files: prefix of the column headings → CSV file.
        show: formats one row of the file.
        budgets: budget in the file → budget in the column heading.
    """
    columns: dict[str, pd.Series] = {}
    for heading, name in files.items():
        frame = read_table(name)
        measured = frame[(frame["runs"] > 0) & (frame["metric"] == "dice")].set_index("method")
        for budget, title in budgets.items():
            rows = measured[measured["budget"] == budget]
            columns[", ".join(filter(None, (heading, title)))] = pd.Series(
                {method: show(row) for method, row in rows.iterrows()}, dtype=str
            )
    methods = list(dict.fromkeys(method for column in columns.values() for method in column.index))
    return [
        ["method", *columns],
        *([SHOWN_AS.get(m, m), *(column.get(m, "–") for column in columns.values())] for m in methods),
    ]


def chaos() -> Rows:
    """Four organs at two budgets, and the mean over the organs."""
    organs = ("liver", "right_kidney", "left_kidney", "spleen")
    frames = {organ: read_table(f"chaos/dice-versus-labels-held-out-{organ}") for organ in organs}
    dice = {
        (organ, budget): f[(f["metric"] == "dice") & (f["budget"] == budget)].set_index("method")["mean"]
        for budget in ("10%", "25%")
        for organ, f in frames.items()
    }
    for budget in ("10%", "25%"):
        dice["mean", budget] = pd.concat([dice[organ, budget] for organ in organs], axis=1).mean(axis=1)
    head = ["method", *(f"{organ.replace('_', ' ')}, {budget}" for organ, budget in dice)]
    methods = frames["liver"].loc[frames["liver"]["runs"] > 0, "method"].unique()
    return [head, *([m, *(format_number(column[m]) for column in dice.values())] for m in methods)]


def patients(name: str) -> Rows:
    """Dice of every patient, and their mean with the interval that `evaluate` prints, by budget and method."""
    frame = pd.read_csv(FILES / f"{name}.csv", dtype=str)
    of_patients = [column for column in frame.columns if column.startswith("btcv_")]
    rest = [column for column in frame.columns if column not in (*of_patients, "budget", "method", "runs")]
    rows = []
    for _, row in frame.iterrows():
        dice = row[of_patients].astype(float)
        limits = mean_interval(dice.tolist(), scale=DICE.scale).limits
        assert limits is not None
        shown = f"{format_number(dice.mean())} [{format_number(limits[0])}, {format_number(limits[1])}]"
        rows.append([row["budget"], row["method"], row["runs"], *map(format_number, dice), shown, *row[rest]])
    return [["budget", "method", "runs", *of_patients, "mean Dice [95% t interval, 4 patients]", *rest], *rows]


def metrics() -> Rows:
    """Every metric of the program."""
    head = ["name", "in tables", "better", "minimum", "maximum", "needs true mm", "shown up to", "definition"]
    rows = [
        [
            f"`{m.key}`",
            m.title,
            m.better.name.lower(),
            *(f"{limit:g}".replace("inf", "∞").replace("-", "−") for limit in m.scale),
            "yes" if m.physical else "no",
            m.place.name.lower(),
            m.description,
        ]
        for m in METRICS.values()
    ]
    return [head, *rows]


def empty_masks() -> Rows:
    """The value of every metric if a mask is empty."""
    outcomes = [outcome for outcome in Outcome if outcome is not Outcome.BOTH]
    rows = [
        [", ".join(f"`{m.key}`" for m in alike), *(rules.rule_for(outcome).value for outcome in outcomes)]
        for rules, alike in group_by_rules(METRICS.values()).items()
    ]
    return [["metrics", *(OUTCOMES[outcome] for outcome in outcomes)], *rows]


BUDGETS = ("1 scan", "3 scans", "5 slices", "20 slices")
MINUTES = {"5 slices": 5, "20 slices": 20, "1 scan": 60, "3 scans": 180}
"""Minutes in which a person outlines a budget: a slice in one, a whole scan in an hour."""


def small_ct(name: str, show: Callable[[pd.Series], str]) -> Rows:
    """A table of the small-ct study."""
    return tabulate_by_budget({"": f"small-ct/{name}"}, show, {b: b for b in BUDGETS})


def recipe() -> Rows:
    """`robust` and `best`, both on the runs of `best`, in domain and in another hospital, by minutes of a person."""
    budgets = sorted(BUDGETS, key=MINUTES.__getitem__)
    columns = [["minutes of a person", *(str(MINUTES[budget]) for budget in budgets)], ["outlined", *budgets]]
    for test, place in (("held-out-btcv", ""), ("lits", ", other hospital")):
        means = read_table(f"small-ct/dice-versus-labels-{test}-liver").query("metric == 'dice'")
        mean = means.set_index(["method", "budget"])["mean"]
        gain = read_table(f"small-ct/comparison-{test}-liver-dice").set_index(["method", "budget"])["difference"]
        columns += [
            [f"robust{place}", *(format_number(mean["best", b] - gain["best", b]) for b in budgets)],
            [f"best{place}", *(format_number(mean["best", b]) for b in budgets)],
            [f"best, refined{place}", *(f"**{format_number(mean['best + SAM', b])}**" for b in budgets)],
        ]
    return [list(row) for row in zip(*columns, strict=True)]


def organs_held_out() -> Rows:
    """Mean Dice of held-out patients by organ, one column per model, over the runs that all models have.

    Runs are folds, each with a seed of its own; the last rows have all runs.
    """
    table = read_table("organs/held-out")
    models = list(dict.fromkeys(table["model"]))
    shared = table.groupby("fold").filter(lambda run: run["model"].nunique() == len(models))
    runs = table.groupby(["model", "fold"])["dice"].mean()
    return [
        *list_organs(shared, "model"),
        ["mean of each run, all runs", *(", ".join(map(format_number, runs[model])) for model in models)],
    ]


def organs_by_budget(name: str) -> Rows:
    """Mean Dice of held-out patients by organ, one column per label budget and model."""
    table = read_table(name)
    return list_organs(table.assign(column=table["outlined"] + ": " + table["model"]), "column")


def list_organs(table: pd.DataFrame, column: str) -> Rows:
    """A row for each organ, with the mean Dice of the patients for each value of `column`; then their mean."""
    columns = list(dict.fromkeys(table[column]))
    means = table.pivot_table(index="organ", columns=column, values="dice", sort=False)[columns]
    return [
        ["organ", *columns],
        *([str(organ).replace("_", " "), *map(format_number, own)] for organ, own in means.iterrows()),
        ["**mean of the organs**", *(f"**{format_number(float(means[one].mean()))}**" for one in columns)],
        ["patients", *(str(table.loc[table[column] == one, "patient"].nunique()) for one in columns)],
    ]


def compare_models(name: str, baseline: str, groups: Sequence[str]) -> Rows:
    """One row per group and model of a file of patients: mean Dice, and difference to the baseline on the same patients
    and runs, corrected over the table.

    A patient who was tested in several runs counts once, with the mean of the runs.

    Args:
        name: of the file, with the columns `model`, `case`, `dice`, those of `groups`, and any that tell runs apart.
        baseline: the model that the others of the group are compared with.
        groups: columns within which models are compared.
    """
    table = read_table(name)
    run = [column for column in table if column not in (*groups, "model", "case", "dice")]
    measured: Rows = []
    p_values: list[float] = []
    for group, part in table.groupby(list(groups), sort=False):
        dice = part.pivot_table(index=["case", *run], columns="model", values="dice", sort=False)
        for model in dice.columns:
            scores = dice[model].dropna()
            of_patients = scores.groupby("case").mean()
            runs = len(scores.groupby(run)) if run else 1
            row = [*map(str, group), str(model), str(runs), str(len(of_patients)), format_with_limits(of_patients)]
            row.append(format_number(float(scores.min())))
            if model == baseline:
                measured.append([*row, "–", "–"])
                continue
            difference = (scores - dice[baseline]).dropna().groupby("case").mean()
            above = f"{int((difference > 0).sum())} of {len(difference)}"
            measured.append([*row, format_with_limits(difference, sign=True), above])
            p_values.append(signed_rank(difference.tolist()).p)
    corrected = iter(zip(p_values, holm(p_values), strict=True))
    rows = [[*row, "–"] if row[-1] == "–" else [*row, "{:.4f} / {:.4f}".format(*next(corrected))] for row in measured]
    heads = [
        "runs",
        "patients",
        "mean Dice [95% interval]",
        "lowest",
        f"against {baseline} [95% interval]",
        "patients above",
    ]
    return [[*groups, "model", *heads, "Wilcoxon p / after Holm"], *rows]


def dice_by_run(name: str, baseline: str, groups: Sequence[str]) -> Rows:
    """One row per group and model that was trained more than once: mean Dice of the patients, by training.

    Args:
        name: of a file with the columns `model`, `run`, `case`, `dice` and those of `groups`.
        baseline: the model that the others of the group are compared with, training by training.
        groups: columns within which models are compared.
    """
    table = read_table(name)
    runs = list(dict.fromkeys(table["run"]))
    rows = [[*groups, "model", *runs, "mean ± SD (trainings)", f"against {baseline}, mean ± SD"]]
    for group, part in table.groupby(list(groups), sort=False):
        means = part.groupby(["model", "run"], sort=False)["dice"].mean().unstack()
        for model, of_runs in means.iterrows():
            done = of_runs.dropna()
            if len(done) > 1:
                change = "–" if model == baseline else format_runs((done - means.loc[baseline]).dropna(), sign=True)
                dice = ["–" if pd.isna(of_runs.get(run)) else format_number(float(of_runs[run])) for run in runs]
                rows.append([*map(str, group), str(model), *dice, format_runs(done), change])
    return rows


def third_dimension(name: str) -> Rows:
    """Masks made in three dimensions, each against the first of those trained on the same, paired over patients.

    A file in third/ has a row for each patient: the means over the organs that he has.
    """
    rows = [
        ["trained on", "masks", "mean Dice", "difference [95% interval]", "patients above", "HD95, mm", "CPU s a scan"]
    ]
    for trained, group in read_table(f"third/{name}").groupby("trained on", sort=False):
        dice = group.pivot_table(index="case", columns="masks", values="dice", sort=False)
        for masks, own in group.groupby("masks", sort=False):
            change = dice[masks] - dice[dice.columns[0]]
            gain = ["–", "–"]
            if masks != dice.columns[0]:
                gain = [format_with_limits(change, sign=True), f"{(change > 0).sum()} of {len(change)}"]
            costs = [format_number(float(own["hd95"].mean()), 1), format_number(float(own["seconds"].mean()), 2)]
            rows.append([str(trained), str(masks), format_number(float(own["dice"].mean())), *gain, *costs])
    return rows


def format_with_limits(values: pd.Series, sign: bool = False) -> str:
    """Mean of the patients and its 95% interval."""
    interval = mean_interval(values.tolist(), scale=UNBOUNDED if sign else DICE.scale)
    assert interval.limits is not None
    low, high = (format_number(limit, 3, sign) for limit in interval.limits)
    return f"{format_number(float(values.mean()), 3, sign)} [{low}, {high}]"


def choose_curve() -> Rows:
    """Mean Dice of test patients, mean of the draws, by way of choosing and number of slices."""
    table = read_table("choose-slices/curve")
    methods = list(dict.fromkeys(table["method"]))
    rows = [["size", "organ", "test", "outlined", *methods]]
    for (size, test, organ, budget), group in table.groupby(["size", "test", "organ", "budget"], sort=False):
        cells = [format_draws(group.loc[group["method"] == method, "dice"]) for method in methods]
        rows.append([f"{size}²", str(organ), str(test), str(budget), *cells])
    return rows


def format_draws(dice: pd.Series) -> str:
    """The mean of the draws, with each of them where there are several."""
    if len(dice) < 2:
        return format_runs(dice).removesuffix(" (1)")
    return f"{format_number(float(dice.mean()))} ({', '.join(map(format_number, dice))})"


def choose_slices(name: str) -> Rows:
    """Dice by way of choosing slices, mean ± SD (folds), one column per organ; from a file in choose-slices/."""
    table = read_table(f"choose-slices/{name}")
    organs = list(dict.fromkeys(table["organ"]))
    rows = [["size", "slices", "chosen", *organs]]
    for (size, slices, rule), group in table.groupby(["size", "slices", "rule"], sort=False):
        cells = [format_runs(group.loc[group["organ"] == organ, "dice"]) for organ in organs]
        rows.append([f"{size}²", str(slices), str(rule), *cells])
    return rows


def format_runs(dice: pd.Series, sign: bool = False) -> str:
    """Mean ± SD (number of runs), or a dash for none."""
    if dice.empty:
        return "–"
    spread = "" if len(dice) == 1 else f" ± {format_number(float(dice.std()), 3)}"
    return f"{format_number(float(dice.mean()), 3, sign)}{spread} ({len(dice)})"


def choose_for_mask() -> Rows:
    """Dice of a propagated slice, mean ± SD (scans), by the way to choose it."""
    table = read_table("choose-slices/for-mask")
    stores = list(dict.fromkeys(table["store"]))
    rows = [["slice", *(store.removeprefix("btcv_").rstrip("0123456789") for store in stores)]]
    for way, group in table.groupby("way", sort=False):
        rows.append([str(way), *(format_runs(group.loc[group["store"] == store, "dice"]) for store in stores)])
    return rows


def read_speed() -> dict[str, Any]:
    """What `benchmarks/bench.py` wrote."""
    report: dict[str, Any] = json.loads((FILES / "speed.json").read_text(encoding="utf-8"))
    return report


def speed_run() -> Rows:
    """Machine, commits and versions of the measured run."""
    run = read_speed()
    packages = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    head = ["machine", "commit", "before", "date", "rounds", "versions"]
    shown = [run["machine"], run["commit"], run["before"], run["date"], str(run["rounds"])]
    return [head, [*shown, f"Python {run['python']}, {packages}"]]


def format_seconds(seconds: float) -> str:
    """Three significant digits with a unit."""
    unit, size = next(((unit, size) for unit, size in UNITS.items() if seconds >= size), ("µs", 1e-6))
    return f"{float(f'{seconds / size:.3g}'):g} {unit}"


def format_way(way: Mapping[str, Any], named: bool) -> str:
    """Name, seconds, memory and ratio of one way, or why it was not measured."""
    name = f"{way['way']}: " if named else ""
    if not way["seconds"]:
        return f"{name}{way['reason']}"
    memory = f", {way['peak_mb']:.0f} MiB" if way["peak_mb"] else ""
    ratio = f" (×{way['ratio']:.3g})" if way.get("ratio", 1) != 1 else ""
    return f"{name}{format_seconds(way['minimum'])}{memory}{ratio}"


def speed(group: str) -> Rows:
    """One row per case of a group: frugalseg, the commit before, and the other ways; and the commit of a case that was
    not measured in the report's own run."""
    rows, report = [], read_speed()
    for case in (case for case in report["cases"] if case["group"] == group):
        ours, *others = case["ways"]
        before = next((format_way(way, named=False) for way in others if way["way"] == BEFORE), "–")
        compared = "; ".join(format_way(way, named=True) for way in others if way["way"] != BEFORE)
        unit = case["unit"] + (", elapsed" if case["clock"] == "wall" else "")
        commit = case.get("commit", report["commit"])
        name = case["name"] + ("" if commit == report["commit"] else f" (commit {commit})")
        rows.append([name, unit, format_way(ours, named=False), before, compared or "–"])
    return [["", "per", "frugalseg", "before", "compared with"], *rows]


def scale(column: str, limits: bool) -> Rows:
    """A figure of the simulated scale by number of machines and stage; with `limits`, also what takes longest."""
    rows = read_table("scale/nodes")
    stages = list(dict.fromkeys(rows["stage"]))
    cells = {
        (row["nodes"], row["stage"]): f"{row[column]:g}" + (f" ({row['limit']})" if limits else "")
        for _, row in rows.iterrows()
    }
    return [["machines", *stages], *([str(n), *(cells[n, stage] for stage in stages)] for n in rows["nodes"].unique())]


SHOWN_AS = {"polycl-m as published": "polycl-m, `paper` preset, 500 steps"}
"""Methods whose name in the plan differs from what was run."""
HIPPOCAMPUS = {part: f"hippocampus/dice-versus-labels-held-out-{part}" for part in ("anterior", "posterior")}


def json_results() -> Rows:
    """Command × key of what `--json` prints."""
    commands: dict[type[Any], list[str]] = {}
    for name, result in RESULTS.items():
        commands.setdefault(result.kind, []).append(f"`{name}`")
    rows = [["commands", "key", "type", "meaning"]]
    for kind, names in commands.items():
        keys = list(list_keys(kind))
        rows += [[", ".join(names) if i == 0 else "", *key] for i, key in enumerate(keys)]
    return rows


def list_keys(kind: type[Any], prefix: str = "") -> Iterator[list[str]]:
    """The keys of a result, and those of the classes of `commands.result_records` in it: name, type, meaning."""
    texts = {p.arg_name: p.description or "" for p in parse_from_object(kind).params}
    grouped = {name.strip(): text for names, text in texts.items() for name in names.split(",")}
    hints = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        yield [f"`{prefix}{field.name}`", describe_json(hints[field.name]), " ".join(grouped[field.name].split())]
        inner, depth = find_result_class(hints[field.name])
        if inner is not None:
            yield from list_keys(inner, f"{prefix}{field.name}{'.*' * depth}.")


JSON_TYPES = {int: "whole number", float: "number", str: "text", bool: "true or false", Path: "path", Any: "any"}


def describe_json(kind: Any) -> str:
    """A type of a result in words."""
    inner = get_args(kind)
    if get_origin(kind) in (Union, UnionType):
        return " or ".join("null" if one is type(None) else describe_json(one) for one in inner)
    if get_origin(kind) is tuple:
        return f"list of {describe_json(inner[0])}"
    if get_origin(kind) is dict:
        return f"text → {describe_json(inner[1])}"
    return JSON_TYPES.get(kind, "object")


def find_result_class(kind: Any, depth: int = 0) -> tuple[type[Any] | None, int]:
    """The class of `commands.result_records` inside a type, if there is one, and in how many lists or objects it is."""
    if getattr(kind, "__module__", "") == RESULTS_MODULE and dataclasses.is_dataclass(kind):
        return kind, depth
    found = (find_result_class(inner, depth + 1) for inner in get_args(kind))
    return next((one for one in found if one[0] is not None), (None, 0))


TABLES: dict[str, Callable[[], Rows]] = {
    "json results": json_results,
    "small-ct, held-out BTCV": partial(small_ct, "dice-versus-labels-held-out-btcv-liver", format_mean_and_runs),
    "small-ct, LiTS": partial(small_ct, "dice-versus-labels-lits-liver", format_mean_and_runs),
    "small-ct, differences on held-out BTCV": partial(
        small_ct, "comparison-held-out-btcv-liver-dice", format_difference
    ),
    "small-ct, differences on LiTS": partial(small_ct, "comparison-lits-liver-dice", format_difference_and_p),
    "small-ct, recipe": recipe,
    "hippocampus": partial(
        tabulate_by_budget, HIPPOCAMPUS, format_mean_and_runs, {"10%": "10% (2 scans)", "25%": "25% (4 scans)"}
    ),
    "chaos": chaos,
    "metrics": metrics,
    "empty masks": empty_masks,
    "speed: run": speed_run,
    **{
        f"speed: {group}": partial(speed, group)
        for group in ("data", "training", "masks", "promptable models", "program")
    },
    "scale, hours": partial(scale, "hours", limits=True),
    "scale, network": partial(scale, "network_gb_s", limits=False),
    "organs, held out": organs_held_out,
    "organs, one and three scans": partial(organs_by_budget, "organs/few-scans"),
    "third, views": partial(third_dimension, "views"),
    "third, pieces": partial(third_dimension, "pieces"),
    "frozen, liver": partial(compare_models, "frozen/liver", "best", ["outlined", "test"]),
    "frozen, windows": partial(compare_models, "frozen/windows", "one window, −160…240", ["outlined"]),
    "PolyCL's claims": partial(compare_models, "pre-training/polycl-claims", "supervised", ["outlined", "test"]),
    "PolyCL's claims, trainings": partial(
        dice_by_run, "pre-training/polycl-claims", "supervised", ["outlined", "test"]
    ),
    "pre-trained features": partial(compare_models, "pre-training/linear", "not trained", ["organs", "outlined"]),
    "another hospital, options": partial(compare_models, "another-hospital/options", "best", ["test"]),
    "another hospital, five slices": partial(compare_models, "another-hospital/five-slices", "best", ["test"]),
    "another hospital, augmentation": partial(
        compare_models, "another-hospital/augmentation", "as in `robust`", ["test"]
    ),
    "self-training on LiTS": partial(compare_models, "another-hospital/self-training", "best", ["test"]),
    "semi": partial(compare_models, "semi/patients", "best", ["measured on"]),
    "semi, longer": partial(compare_models, "semi/longer", "best", ["test"]),
    "semi, agreement": partial(compare_models, "semi/agreement", "best", ["test"]),
    "choose-slices": partial(choose_slices, "ranking"),
    "choose-slices, with a model": partial(choose_slices, "further"),
    "choose-slices, curve": choose_curve,
    "choose-slices, for a mask": choose_for_mask,
    "small-sam": partial(patients, "small-sam/patients"),
    "small-sam-100": partial(patients, "small-sam/patients-100-slices"),
    "small-sam-scan-boxes": partial(patients, "small-sam/patients-scan-boxes"),
    "small-sam, folds": partial(compare_models, "small-sam/folds", "U-Net", ["outlined"]),
    "small-sam-runs": partial(patients, "small-sam-runs/patients"),
}


def to_markdown(rows: Rows) -> str:
    """Format rows as a GitHub Markdown table."""
    head, *body = rows
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, *body)).replace(
        "|\n", "|\n" + "|---" * len(head) + "|\n", 1
    )


def fill(page: str) -> str:
    """Return the page with every marked table regenerated.

    Raises:
        FileNotFoundError: a marker names neither a table nor a file.
    """

    def fill_table(mark: re.Match[str]) -> str:
        name = mark[2]
        return mark[1] + to_markdown(TABLES[name]() if name in TABLES else read_rows(name)) + mark[3]

    return MARKED.sub(fill_table, page)


def find_outdated(pages: Iterable[Path], write: bool) -> list[Path]:
    """Find the pages whose tables differ from the CSV files, and update them if `write`."""
    differing = []
    for path in pages:
        text = path.read_text(encoding="utf-8")
        if (filled := fill(text)) != text:
            differing.append(path)
            if write:
                path.write_text(filled, encoding="utf-8")
    return differing


def main(arguments: Sequence[str]) -> int:
    """Fill or check every page; returns 1 if a check finds a difference."""
    parser = argparse.ArgumentParser(description="Generate the documentation's tables from docs/explanation/tables/.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a page differs")
    check = parser.parse_args(arguments).check
    differing = find_outdated(sorted(DOCS.rglob("*.md")), write=not check)
    for path in differing:
        done = "tables are outdated" if check else "tables updated"
        print(f"{path.relative_to(DOCS.parent)}: {done}")
    return int(check and bool(differing))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
