"""`frugalseg evaluate`: compare masks with references scan by scan, and summarise the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from frugalseg.dataset.targets import Targets, check_values_present, format_values, parse_targets
from frugalseg.engine.files import check_out
from frugalseg.engine.parallel import format_failures
from frugalseg.engine.pool import FunctionWork, InThreads
from frugalseg.engine.progress import say
from frugalseg.engine.ray_pool import open_pool
from frugalseg.engine.threads import with_threads
from frugalseg.errors import FrugalsegError, OptionError, PairingError, ScanError
from frugalseg.evaluation.cases import CaseJob, CaseResult, compare_case
from frugalseg.evaluation.metric_table import Metric, Place, list_metrics
from frugalseg.evaluation.pairing import Pairs, find_pairs
from frugalseg.evaluation.report import render_evaluation_report
from frugalseg.evaluation.results import claim_folder, write_cases, write_summary
from frugalseg.evaluation.roles import find_roles, read_predictions
from frugalseg.evaluation.summary import build_summary
from frugalseg.imaging.find import find_dataset
from frugalseg.options import EvaluateOptions
from frugalseg.records.predictions import PredictionRecord
from frugalseg.records.summary import MetricSummary, SummaryRecord
from frugalseg.text import align_columns, pluralize


@with_threads
def evaluate(options: EvaluateOptions) -> SummaryRecord:
    """Compare every prediction with its reference and write the results into `options.out`.

    Returns:
        The content of summary.json (see `summary.build_summary`).

    Raises:
        PairingError: a reference without prediction, no pair at all, or masks of a case on different grids.
        ScanError: a mask cannot be read. This error and that of different grids are raised after all other cases
            were compared and written; the files are then marked as incomplete.
        OptionError: a `--target` value that no reference holds, or targets that no prediction uses.
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
    with claim_folder(options.out, options.overwrite):
        return _compare_and_write(options, targets, record, pairs, roles, images)


def _compare_and_write(
    options: EvaluateOptions,
    targets: Targets,
    record: PredictionRecord | None,
    pairs: Pairs,
    roles: Mapping[str, str],
    images: Mapping[str, Path],
) -> SummaryRecord:
    annotated = {case: slices for case, slices in (record.annotated if record else {}).items() if case in pairs.masks}
    if annotated:
        say(f"excluded: {pluralize(sum(map(len, annotated.values())), 'manually annotated slice')}")
    if pairs.no_reference:
        say(f"no reference for {pluralize(len(pairs.no_reference), 'prediction')}")

    here = InThreads(options.workers)
    threads = 1 if options.ray else here.threads_each(len(pairs.masks))
    jobs = _make_jobs(options, pairs, roles, targets, annotated, threads)
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
        )
        write_cases(options.out, rows, summary)
        report = render_evaluation_report(summary, rows, pairs, images, record) if options.report else None
        write_summary(options.out, summary, report)
        _print_summary(summary)
    _raise_failures(failures, len(pairs.masks), bool(results))
    return summary


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
            "write predictions and references with the same label values",
        )


def _print_summary(summary: SummaryRecord) -> None:
    """Print the means of every group, the headline first."""
    headline, groups = summary.headline, summary.groups
    if headline is None:
        say("every scan was used in training: there is no headline figure")
    else:
        print(f"mean over {pluralize(groups[headline].scans, 'scan')}: {groups[headline].meaning}")
    metrics = list_metrics(Place.HEADLINE)
    rows = [("group", "scans", "organ", *(f"{m.heading} {m.unit}".rstrip() for m in metrics), "95% interval")]
    for name, group in sorted(groups.items(), key=lambda item: item[0] != headline):
        for organ, figures in group.organs.items():
            shown = (_format_mean(figures.metrics[m.key], m.digits) for m in metrics)
            rows.append((name, str(group.scans), organ, *shown, _format_kinds(metrics, figures.metrics)))
    print(align_columns(rows))


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
