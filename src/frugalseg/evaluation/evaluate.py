"""`frugalseg evaluate`: compare masks with references scan by scan, and summarise the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from msgspec import UNSET, UnsetType

from frugalseg.dataset.splits import parse_patient
from frugalseg.dataset.targets import Targets, check_values_present, format_values, parse_targets
from frugalseg.engine.files import check_out
from frugalseg.engine.parallel import format_failures
from frugalseg.engine.pool import FunctionWork, InThreads
from frugalseg.engine.progress import say
from frugalseg.engine.ray_pool import open_pool
from frugalseg.engine.threads import with_threads
from frugalseg.errors import FrugalsegError, OptionError, PairingError, ScanError
from frugalseg.evaluation.cases import CaseJob, CaseResult, compare_case
from frugalseg.evaluation.group_table import GroupTable, read_group_table
from frugalseg.evaluation.metric_table import Metric, Place, list_metrics
from frugalseg.evaluation.pairing import Pairs, find_pairs
from frugalseg.evaluation.report import render_evaluation_report
from frugalseg.evaluation.results import claim_folder, write_cases, write_summary
from frugalseg.evaluation.roles import choose_main_group, find_roles, group_cases, read_predictions
from frugalseg.evaluation.subgroups import count_supported, write_subgroups
from frugalseg.evaluation.summary import build_summary
from frugalseg.imaging.find import find_dataset
from frugalseg.options import EvaluateOptions
from frugalseg.records.predictions import PredictionRecord
from frugalseg.records.summary import GroupSummary, MetricSummary, SummaryRecord
from frugalseg.text import align_columns, format_number, pluralize


@with_threads
def evaluate(options: EvaluateOptions) -> SummaryRecord:
    """Compare every prediction with its reference and write the results into `options.out`.

    Returns:
        The content of summary.json (see `summary.build_summary`).

    Raises:
        PairingError: a reference without prediction, no pair at all, or masks of a case on different grids.
        ScanError: a mask cannot be read. This error and that of different grids are raised after all other cases
            were compared and written; the files are then marked as incomplete.
        OptionError: a `--target` value that no reference holds, or targets that no prediction uses; or a table of
            groups that cannot be used.
        RunError: `out` is in use.
    """
    check_out(options.out)
    record = read_predictions(options.predictions)
    pairs = find_pairs(options.references, options.predictions, record, options.case)
    options = replace(options, target=options.target or _read_targets(record, options))
    targets = parse_targets(options.target)
    roles = find_roles(pairs.masks, record)
    images = {} if options.images is None else find_dataset(options.images, None)[0]
    known = {case: Path(image) for case, image in record.images.items()} if record else {}
    images = {**known, **images}
    table = None if options.groups is None else _read_groups(options, roles)
    with claim_folder(options.out, options.overwrite):
        return _compare_and_write(options, targets, record, pairs, roles, images, table)


def _compare_and_write(
    options: EvaluateOptions,
    targets: Targets,
    record: PredictionRecord | None,
    pairs: Pairs,
    roles: Mapping[str, str],
    images: Mapping[str, Path],
    table: GroupTable | None,
) -> SummaryRecord:
    annotated = {case: slices for case, slices in (record.annotated if record else {}).items() if case in pairs.masks}
    if annotated:
        say(f"excluded: {pluralize(sum(map(len, annotated.values())), 'manually annotated slice')}")
    if pairs.no_reference:
        say(f"no reference for {pluralize(len(pairs.no_reference), 'prediction')}")

    here = InThreads(options.workers)
    threads = 1 if options.ray else here.threads_each(len(pairs.masks))
    jobs = _make_jobs(options, pairs, roles, targets, annotated, threads, images)
    with open_pool(options.ray, here, options.workers, threads=1, gpu=False) as pool:
        results, failures = pool.run(FunctionWork(compare_case), jobs, lambda _, result: result, "comparing")
    if results:
        if not failures:  # else the values of some masks are unknown
            check_targets(targets, results, record)
        rows = [row for result in results.values() for row in result.rows]
        summary = build_summary(
            rows,
            targets,
            options,
            pairs,
            {case: error.problem for case, error in failures.items()},
            annotated,
            table,
        )
        write_cases(options.out, rows, summary)
        report = render_evaluation_report(summary, rows, pairs, images, record) if options.report else None
        if not isinstance(summary.subgroups, UnsetType):
            write_subgroups(options.out, summary.subgroups)
        write_summary(options.out, summary, report)
        _print_summary(summary)
    _raise_failures(failures, len(pairs.masks), bool(results))
    return summary


def _read_groups(options: EvaluateOptions, roles: Mapping[str, str]) -> GroupTable:
    """The groups of the patients whose scans are the result; says which columns are not used."""
    assert options.groups is not None
    groups = group_cases(roles)
    cases = groups[choose_main_group(groups)]
    table = read_group_table(options.groups, {case: parse_patient(case, options.patient_pattern) for case in cases})
    for name, reason in table.left_out.items():
        say(f"column {name} of {options.groups} is not used: it {reason}")
    for column in table.columns:
        if column.without_value:
            say(f"column {column.name}: {pluralize(column.without_value, 'patient')} without a value, left out")
    return table


def _read_targets(record: PredictionRecord | None, options: EvaluateOptions) -> list[str]:
    """The targets of predictions.json, in the format of `--target`."""
    if record is None or not record.targets:
        raise OptionError(
            f"--target is missing, and no predictions.json beside {options.predictions} lists the label values",
            "name the organs to compare and their label values, for example --target liver=6",
        )
    return [f"{organ}={','.join(map(str, values))}" for organ, values in record.targets.items()]


def _make_jobs(
    options: EvaluateOptions,
    pairs: Pairs,
    roles: Mapping[str, str],
    targets: Targets,
    annotated: Mapping[str, tuple[int, ...]],
    threads: int,
    images: Mapping[str, Path],
) -> dict[str, CaseJob]:
    return {
        case: CaseJob(
            case=case,
            role=roles[case],
            reference=reference,
            prediction=prediction,
            targets=targets,
            tolerance=options.tolerance_mm,
            slicewise=options.slicewise,
            threads=threads,
            annotated=annotated.get(case, ()),
            scan=images.get(case),
            lesion_iou=options.lesion_iou if options.lesions else None,
        )
        for case, (reference, prediction) in pairs.masks.items()
    }


def check_targets(targets: Targets, results: Mapping[str, CaseResult], record: PredictionRecord | None) -> None:
    """Check that the target values occur in the references, and any of them in the predictions.

    A value that the model was trained with need not occur: the tumour of liver=1,2 may be absent from all of a few
    scans.

    Raises:
        OptionError: naming the values found.
    """
    found = frozenset().union(*(r.reference_values for r in results.values()))
    predicted = frozenset().union(*(r.prediction_values for r in results.values()))
    check_values_present(targets, found, record.targets if record else None, where="the references")
    wanted = {v for values in targets.values() for v in values}
    if predicted and not predicted & wanted:
        raise OptionError(
            f"no prediction holds a value of --target ({format_values(wanted)}); they hold {format_values(predicted)}",
            "write predictions and references with the same label values; `frugalseg predict --target` writes others",
        )


def _print_summary(summary: SummaryRecord) -> None:
    """Print the means of every group, the headline first."""
    headline, groups = summary.headline, summary.groups
    if headline is None:
        say(f"no scan is unseen by the model ({', '.join(groups)}): there is no headline figure")
    else:
        print(f"mean over {pluralize(groups[headline].scans, 'scan')}: {groups[headline].meaning}")
    metrics = list_metrics(Place.HEADLINE)
    rows = [("group", "scans", "organ", *(f"{m.heading} {m.unit}".rstrip() for m in metrics), "95% interval")]
    for name, group in sorted(groups.items(), key=lambda item: item[0] != headline):
        for organ, figures in group.organs.items():
            shown = (_format_mean(figures.metrics[m.key], m.digits) for m in metrics)
            rows.append((name, str(group.scans), organ, *shown, _format_kinds(metrics, figures.metrics)))
    print(align_columns(rows))
    if headline is not None:
        _print_lesions(groups[headline])
    if not isinstance(summary.subgroups, UnsetType):
        print(count_supported(summary.subgroups))


def _print_lesions(group: GroupSummary) -> None:
    """Print lesion-wise detection, if it was measured."""
    pools = {name: own.lesions_pooled for name, own in group.organs.items() if own.lesions_pooled is not UNSET}
    if not pools:
        return
    rows: list[tuple[str, ...]] = [
        ("organ", "lesions", "predicted", "found", "F1", "sensitivity", "precision", "false positives per scan")
    ]
    for organ, pool in pools.items():
        shown = (format_number(share) for share in (pool.f1, pool.sensitivity, pool.precision))
        counts = (str(count) for count in (pool.reference, pool.prediction, pool.found))
        rows.append((organ, *counts, *shown, format_number(pool.false_positives_per_scan, 2)))
    print(f"lesions of {pluralize(group.scans, 'scan')}, all together:\n{align_columns(rows)}")


def _format_mean(figures: MetricSummary, digits: int) -> str:
    """A mean, with the limits of its interval if it has one."""
    if figures.mean is None:
        return "none"
    text = f"{figures.mean:.{digits}f}"
    if figures.ci95:
        text += f" [{figures.ci95[0]:.{digits}f}, {figures.ci95[1]:.{digits}f}]"
    return text


def _format_kinds(metrics: Sequence[Metric], figures: Mapping[str, MetricSummary]) -> str:
    """The kinds of interval of the metrics, or why they have none."""
    kinds = {metric.heading: str(figures[metric.key].ci95_kind) for metric in metrics}
    if len(set(kinds.values())) == 1:
        return next(iter(kinds.values()))
    return "; ".join(f"{heading}: {kind}" for heading, kind in kinds.items())


def _raise_failures(failures: Mapping[str, FrugalsegError], total: int, written: bool) -> None:
    if not failures:
        return
    grids = all(isinstance(error, PairingError) for error in failures.values())
    raise (PairingError if grids else ScanError)(
        f"{len(failures)} of {pluralize(total, 'case')} cannot be compared"
        f"{'; the others are written, and the evaluation is marked as incomplete' if written else ''}"
        f":\n{format_failures(failures)}",
        "repair them and run the same command again with --overwrite"
        if len(failures) > 1 or written
        else next(iter(failures.values())).cure,
    )
