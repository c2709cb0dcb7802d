"""The figures of all scans in one: means, spreads, intervals and counts, a group and an organ at a time."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from importlib import metadata

from frugalseg._version import __version__
from frugalseg.engine.run import to_plain_options
from frugalseg.evaluation.case_row import CaseRow
from frugalseg.evaluation.metric_table import Place, metrics_in, policy_table
from frugalseg.evaluation.pairing import Pairs
from frugalseg.evaluation.policy import OUTCOMES, Outcome
from frugalseg.evaluation.roles import GROUPS, group_cases, headline_group
from frugalseg.evaluation.slicewise import SLICE_METRICS, pool_slices
from frugalseg.evaluation.statistics import Range, interval_rule, summarise
from frugalseg.options import EvaluateOptions
from frugalseg.records.record import finite_or_none
from frugalseg.records.summary import GroupSummary, MetricSummary, OrganSummary, SummaryRecord

PACKAGES = ("numpy", "scipy", "nibabel", "SimpleITK")


def build_summary(
    records: Sequence[CaseRow],
    targets: Mapping[str, tuple[int, ...]],
    options: EvaluateOptions,
    pairs: Pairs,
    broken: Mapping[str, str],
    annotated: Mapping[str, Sequence[int]] | None = None,
) -> SummaryRecord:
    """Everything of summary.json.

    Args:
        records: one a case and organ (see `case_row.CaseRow`).
        targets: organ → label values.
        options: the evaluation's options.
        pairs: what was compared, and which cases have no partner.
        broken: case id → why its masks could not be compared.
        annotated: case id → slices that were left out because a person had drawn them.

    Returns:
        The record, in which numbers that do not exist are None. `groups[group].organs[organ]` holds the figures, and
        `headline` names the group whose means are the result (None where every scan was seen before).
    """
    groups = group_cases({r.case: r.role for r in records})
    return SummaryRecord(
        complete=not broken,
        headline=headline_group(groups),
        groups={
            name: GroupSummary(
                meaning=GROUPS[name],
                scans=len(cases),
                cases=tuple(cases),
                organs={organ: _organ(_of(records, cases, organ), options) for organ in targets},
            )
            for name, cases in groups.items()
        },
        not_predicted=pairs.not_predicted,
        no_reference=pairs.no_reference,
        broken=dict(broken),
        annotated_slices_left_out={case: tuple(slices) for case, slices in (annotated or {}).items()},
        targets=dict(targets),
        tolerance_mm=options.tolerance_mm,
        interval=interval_rule("scan", options.bootstrap, options.seed) + "; each scan is taken as one patient",
        empty_mask_policy=policy_table(),
        metrics=_descriptions(options.slicewise),
        options=to_plain_options(options),
        versions=versions(),
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )


def _descriptions(slicewise: bool) -> dict[str, str]:
    told = {metric.key: metric.description for metric in metrics_in(Place.SUMMARY)}
    return told | {name: m.description for name, m in SLICE_METRICS.items()} if slicewise else told


def _of(records: Sequence[CaseRow], cases: Iterable[str], organ: str) -> list[CaseRow]:
    wanted = set(cases)
    return [r for r in records if r.case in wanted and r.organ == organ]


def _organ(records: Sequence[CaseRow], options: EvaluateOptions) -> OrganSummary:
    def figures_of(name: str, scale: Range) -> MetricSummary:
        return summarise([r[name] for r in records], options.bootstrap, options.seed, scale).figures()

    by_outcome = {o: [r for r in records if r.outcome is o] for o in OUTCOMES}
    organ = OrganSummary(
        counts={o.value: len(held) for o, held in by_outcome.items()},
        missed=tuple(r.case for r in by_outcome[Outcome.MISSED]),
        false_positive_ml={r.case: r["false_positive_ml"] for r in by_outcome[Outcome.FALSE_POSITIVE]},
        both_empty=tuple(r.case for r in by_outcome[Outcome.BOTH_EMPTY]),
        metrics={m.key: figures_of(m.key, m.scale) for m in metrics_in(Place.SUMMARY)},
    )
    if not options.slicewise:
        return organ
    return replace(
        organ,
        slicewise_mean_over_scans={name: figures_of(name, m.scale) for name, m in SLICE_METRICS.items()},
        slicewise_mean_over_slices={name: finite_or_none(mean) for name, mean in pool_slices(records).items()},
    )


def versions() -> dict[str, str]:
    """What the figures were computed with."""
    return {
        "frugalseg": __version__,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in PACKAGES},
    }
