"""The summary of all scans: means, spreads, intervals and counts for each group and organ."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from importlib import metadata

from msgspec import UNSET

from frugalseg._version import __version__
from frugalseg.engine.run import to_plain_options
from frugalseg.evaluation.agreement import agree_in_volume
from frugalseg.evaluation.case_row import CaseRow
from frugalseg.evaluation.group_table import GroupTable
from frugalseg.evaluation.lesions import LESION_METRICS, pool_lesions
from frugalseg.evaluation.metric_table import Place, build_policy_table, list_metrics
from frugalseg.evaluation.pairing import Pairs
from frugalseg.evaluation.policy import OUTCOMES, Outcome
from frugalseg.evaluation.roles import GROUP_MEANINGS, choose_headline, choose_main_group, group_cases
from frugalseg.evaluation.slicewise import SLICE_METRICS, pool_slices
from frugalseg.evaluation.statistics import Range, describe_interval_rule, summarise
from frugalseg.evaluation.subgroups import compare_subgroups
from frugalseg.options import EvaluateOptions
from frugalseg.records.record import finite_or_none
from frugalseg.records.summary import GroupSummary, MetricSummary, OrganSummary, SummaryRecord

VERSIONED_PACKAGES = ("numpy", "scipy", "nibabel", "SimpleITK")


def build_summary(
    rows: Sequence[CaseRow],
    targets: Mapping[str, tuple[int, ...]],
    options: EvaluateOptions,
    pairs: Pairs,
    broken: Mapping[str, str],
    annotated: Mapping[str, Sequence[int]] | None = None,
    table: GroupTable | None = None,
) -> SummaryRecord:
    """Compute the content of summary.json.

    Args:
        rows: one for each case and organ.
        targets: organ → label values.
        options: the evaluation's options.
        pairs: what was compared, and which cases have no partner.
        broken: case id → why its masks could not be compared.
        annotated: case id → slices that were left out because they were annotated manually.
        table: groups of the patients, where they are compared.

    Returns:
        The record, in which undefined numbers are None. `groups[group].organs[organ]` holds the figures, and
        `headline` names the group whose means are the result (None where every scan was used in training).
    """
    groups = group_cases({r.case: r.role for r in rows})
    return SummaryRecord(
        complete=not broken,
        headline=choose_headline(groups),
        groups={
            name: GroupSummary(
                meaning=GROUP_MEANINGS[name],
                scans=len(cases),
                cases=tuple(cases),
                organs={organ: _summarise_organ(_select_rows(rows, cases, organ), options) for organ in targets},
            )
            for name, cases in groups.items()
        },
        not_predicted=pairs.not_predicted,
        no_reference=pairs.no_reference,
        broken=dict(broken),
        annotated_slices_left_out={case: tuple(slices) for case, slices in (annotated or {}).items()},
        targets=dict(targets),
        tolerance_mm=options.tolerance_mm,
        interval=describe_interval_rule("scan", options.bootstrap, options.seed)
        + "; each scan is taken as one patient",
        empty_mask_policy=build_policy_table(),
        metrics=_describe_metrics(options),
        options=to_plain_options(options),
        versions=read_versions(),
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        subgroups=UNSET
        if table is None
        else compare_subgroups(rows, list(targets), table, choose_main_group(groups), options.bootstrap, options.seed),
    )


def _describe_metrics(options: EvaluateOptions) -> dict[str, str]:
    descriptions = {metric.key: metric.description for metric in list_metrics(Place.SUMMARY)}
    if options.lesions:
        descriptions |= {name: m.description for name, m in LESION_METRICS.items()}
    if options.slicewise:
        descriptions |= {name: m.description for name, m in SLICE_METRICS.items()}
    return descriptions


def _select_rows(rows: Sequence[CaseRow], cases: Iterable[str], organ: str) -> list[CaseRow]:
    wanted = set(cases)
    return [r for r in rows if r.case in wanted and r.organ == organ]


def _summarise_organ(rows: Sequence[CaseRow], options: EvaluateOptions) -> OrganSummary:
    def summarise_metric(name: str, scale: Range) -> MetricSummary:
        return summarise([r[name] for r in rows], options.bootstrap, options.seed, scale).to_record()

    by_outcome = {o: [r for r in rows if r.outcome is o] for o in OUTCOMES}
    organ = OrganSummary(
        counts={o.value: len(held) for o, held in by_outcome.items()},
        missed=tuple(r.case for r in by_outcome[Outcome.MISSED]),
        false_positive_ml={r.case: r["false_positive_ml"] for r in by_outcome[Outcome.FALSE_POSITIVE]},
        both_empty=tuple(r.case for r in by_outcome[Outcome.BOTH_EMPTY]),
        metrics={m.key: summarise_metric(m.key, m.scale) for m in list_metrics(Place.SUMMARY)},
        volume_agreement=agree_in_volume([r["volume_error_ml"] for r in rows]),
    )
    if options.lesions:
        organ = replace(
            organ,
            lesions_mean_over_scans={name: summarise_metric(name, m.scale) for name, m in LESION_METRICS.items()},
            lesions_pooled=pool_lesions(rows),
        )
    if not options.slicewise:
        return organ
    return replace(
        organ,
        slicewise_mean_over_scans={name: summarise_metric(name, m.scale) for name, m in SLICE_METRICS.items()},
        slicewise_mean_over_slices={name: finite_or_none(mean) for name, mean in pool_slices(rows).items()},
    )


def read_versions() -> dict[str, str]:
    """The versions of the software that computed the figures."""
    return {
        "frugalseg": __version__,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in VERSIONED_PACKAGES},
    }
