"""The figures of all scans in one: means, spreads, intervals and counts, a group and an organ at a time."""

from __future__ import annotations

import math
import platform
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from importlib import metadata
from typing import Any

from frugalseg._version import __version__
from frugalseg.evaluation.metric_table import Place, metrics_in, policy_table
from frugalseg.evaluation.pairing import Pairs
from frugalseg.evaluation.policy import OUTCOMES, Outcome
from frugalseg.evaluation.roles import GROUPS, group_cases, headline_group
from frugalseg.evaluation.slicewise import SLICE_METRICS, pool_slices
from frugalseg.evaluation.statistics import Range, interval_rule, summarise

FORMAT = 1
PACKAGES = ("numpy", "scipy", "nibabel", "SimpleITK")

Record = Mapping[str, Any]


def build_summary(
    records: Sequence[Record],
    targets: Mapping[str, tuple[int, ...]],
    options: Mapping[str, Any],
    pairs: Pairs,
    broken: Mapping[str, str],
    annotated: Mapping[str, Sequence[int]] | None = None,
) -> dict[str, Any]:
    """Everything of summary.json.

    Args:
        records: one a case and organ (see `cases.CaseResult`).
        targets: organ → label values.
        options: the evaluation's options as plain data, with tolerance, bootstrap and seed.
        pairs: what was compared, and which cases have no partner.
        broken: case id → why its masks could not be compared.
        annotated: case id → slices that were left out because a person had drawn them.

    Returns:
        Plain data, ready for JSON: numbers that do not exist are None. `groups[group]["organs"][organ]` holds the
        figures, and `headline` names the group whose means are the result (None where every scan was seen before).
    """
    groups = group_cases({r["case"]: r["role"] for r in records})
    summary = {
        "format": FORMAT,
        "complete": not broken,
        "headline": headline_group(groups),
        "groups": {
            name: {
                "meaning": GROUPS[name],
                "scans": len(cases),
                "cases": cases,
                "organs": {organ: _organ(_of(records, cases, organ), options) for organ in targets},
            }
            for name, cases in groups.items()
        },
        "not_predicted": pairs.not_predicted,
        "no_reference": list(pairs.no_reference),
        "broken": dict(broken),
        "annotated_slices_left_out": dict(annotated or {}),
        "targets": {organ: list(values) for organ, values in targets.items()},
        "tolerance_mm": options["tolerance_mm"],
        "interval": interval_rule("scan", options["bootstrap"], options["seed"])
        + "; each scan is taken as one patient",
        "empty_mask_policy": policy_table(),
        "metrics": _descriptions(options["slicewise"]),
        "options": dict(options),
        "versions": versions(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    result: dict[str, Any] = without_nan(summary)
    return result


def _descriptions(slicewise: bool) -> dict[str, str]:
    told = {metric.key: metric.description for metric in metrics_in(Place.SUMMARY)}
    return told | {name: m.description for name, m in SLICE_METRICS.items()} if slicewise else told


def _of(records: Sequence[Record], cases: Iterable[str], organ: str) -> list[dict[str, Any]]:
    wanted = set(cases)
    return [dict(r) for r in records if r["case"] in wanted and r["organ"] == organ]


def _organ(records: list[dict[str, Any]], options: Mapping[str, Any]) -> dict[str, Any]:
    def summary_of(name: str, scale: Range) -> dict[str, Any]:
        return summarise([r[name] for r in records], options["bootstrap"], options["seed"], scale).to_dict()

    by_outcome = {o: [r for r in records if r["outcome"] == o.value] for o in OUTCOMES}
    organ: dict[str, Any] = {
        "counts": {o.value: len(held) for o, held in by_outcome.items()},
        "missed": [r["case"] for r in by_outcome[Outcome.MISSED]],
        "false_positive_ml": {r["case"]: r["false_positive_ml"] for r in by_outcome[Outcome.FALSE_POSITIVE]},
        "both_empty": [r["case"] for r in by_outcome[Outcome.BOTH_EMPTY]],
        "metrics": {m.key: summary_of(m.key, m.scale) for m in metrics_in(Place.SUMMARY)},
    }
    if options["slicewise"]:
        organ["slicewise_mean_over_scans"] = {name: summary_of(name, m.scale) for name, m in SLICE_METRICS.items()}
        organ["slicewise_mean_over_slices"] = pool_slices(records)
    return organ


def versions() -> dict[str, str]:
    """What the figures were computed with."""
    return {
        "frugalseg": __version__,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in PACKAGES},
    }


def without_nan(value: Any) -> Any:
    """Plain data with None for every NaN or infinity, which JSON cannot hold; tuples become lists."""
    if isinstance(value, Mapping):
        return {key: without_nan(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
