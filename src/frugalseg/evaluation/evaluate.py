"""`frugalseg evaluate`: masks against references, scan by scan, and what it comes to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from frugalseg.dataset.targets import Targets, check_values_present, format_values, parse_targets
from frugalseg.engine.files import check_out
from frugalseg.engine.parallel import format_failures, map_cases
from frugalseg.engine.progress import say
from frugalseg.engine.threads import cores_to_use, with_threads
from frugalseg.errors import FrugalsegError, OptionError, PairingError, ScanError
from frugalseg.evaluation.cases import CaseJob, CaseResult, compare_case
from frugalseg.evaluation.metric_table import Metric, Place, metrics_in
from frugalseg.evaluation.pairing import Pairs, find_pairs
from frugalseg.evaluation.report import render_report
from frugalseg.evaluation.results import claimed, write_cases, write_summary
from frugalseg.evaluation.roles import read_predictions, roles_of
from frugalseg.evaluation.summary import build_summary
from frugalseg.imaging.find import find_dataset
from frugalseg.options import EvaluateOptions
from frugalseg.records.predictions import PredictionRecord
from frugalseg.records.summary import MetricSummary, SummaryRecord
from frugalseg.text import align_columns, pluralize


@with_threads
def evaluate(options: EvaluateOptions) -> SummaryRecord:
    """Compare every prediction with its reference and write `options.out`.

    Returns:
        summary.json (see `summary.build_summary`).

    Raises:
        PairingError: a reference without prediction, no pair at all, or masks of a case on different grids.
        ScanError: a mask cannot be read. This and different grids are raised after all other cases are done and
            written; the files say that they are not complete.
        OptionError: a `--target` value that no reference holds, or targets that no prediction uses.
        RunError: `out` is in use.
    """
    check_out(options.out)
    record = read_predictions(options.predictions)
    pairs = find_pairs(options.references, options.predictions, record, options.case)
    options = replace(options, target=options.target or _targets_of(record, options))
    targets = parse_targets(options.target)
    roles = roles_of(pairs.masks, record)
    images = {} if options.images is None else find_dataset(options.images, None)[0]
    known = {case: Path(image) for case, image in record.images.items()} if record else {}
    images = {**known, **images}
    with claimed(options.out, options.overwrite):
        return _evaluate(options, targets, record, pairs, roles, images)


def _evaluate(
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

    results, failures = map_cases(
        compare_case, _jobs(options, pairs, roles, targets, annotated), "comparing", options.workers
    )
    if results:
        if not failures:  # the values of masks that could not be read are not known
            check_targets(targets, results, record)
        records = [record for result in results.values() for record in result.records]
        summary = build_summary(
            records,
            targets,
            options,
            pairs,
            {case: error.problem for case, error in failures.items()},
            annotated,
        )
        write_cases(options.out, records, summary)
        report = render_report(summary, records, pairs, images, record) if options.report else None
        write_summary(options.out, summary, report)
        _announce(summary)
    _raise_failures(failures, len(pairs.masks), bool(results))
    return summary


def _targets_of(record: PredictionRecord | None, options: EvaluateOptions) -> list[str]:
    """What the note beside the predictions says they hold, as `--target` takes it."""
    if record is None or not record.targets:
        raise OptionError(
            f"--target is missing, and no predictions.json beside {options.predictions} states what the masks hold",
            "name what is compared, for example --target liver=6",
        )
    return [f"{organ}={','.join(map(str, values))}" for organ, values in record.targets.items()]


def _jobs(
    options: EvaluateOptions,
    pairs: Pairs,
    roles: Mapping[str, str],
    targets: Targets,
    annotated: Mapping[str, tuple[int, ...]],
) -> dict[str, CaseJob]:
    cores = cores_to_use()
    at_once = max(1, min(cores if options.workers is None else options.workers, len(pairs.masks)))
    return {
        case: CaseJob(
            case=case,
            role=roles[case],
            reference=reference,
            prediction=prediction,
            targets=targets,
            tolerance=options.tolerance_mm,
            slicewise=options.slicewise,
            threads=max(1, cores // at_once),
            annotated=annotated.get(case, ()),
        )
        for case, (reference, prediction) in pairs.masks.items()
    }


def check_targets(targets: Targets, results: Mapping[str, CaseResult], record: PredictionRecord | None) -> None:
    """A target value that no reference holds is a slip of the user's, and so are predictions in other values.

    A value that the model was trained with is taken on trust: a few scans may all lack the tumour of liver=1,2.

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


def _announce(summary: SummaryRecord) -> None:
    """The summary, on standard output: means of every group, the headline first."""
    headline, groups = summary.headline, summary.groups
    if headline is None:
        say("every scan was seen in training: there is no headline figure")
    else:
        print(f"mean over {pluralize(groups[headline].scans, 'scan')}: {groups[headline].meaning}")
    metrics = metrics_in(Place.HEADLINE)
    rows = [("group", "scans", "organ", *(f"{m.heading} {m.unit}".rstrip() for m in metrics), "95% interval")]
    for name, group in sorted(groups.items(), key=lambda item: item[0] != headline):
        for organ, figures in group.organs.items():
            shown = (_limits(figures.metrics[m.key], m.digits) for m in metrics)
            rows.append((name, str(group.scans), organ, *shown, _kinds(metrics, figures.metrics)))
    print(align_columns(rows))


def _limits(figures: MetricSummary, digits: int) -> str:
    """A mean, and the limits of its interval where it has one."""
    if figures.mean is None:
        return "none"
    text = f"{figures.mean:.{digits}f}"
    if figures.ci95:
        text += f" [{figures.ci95[0]:.{digits}f}, {figures.ci95[1]:.{digits}f}]"
    return text


def _kinds(metrics: Sequence[Metric], figures: Mapping[str, MetricSummary]) -> str:
    """Which interval the metrics have, or why they have none."""
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
        f"{', the others are written and marked as incomplete' if written else ''}:\n{format_failures(failures)}",
        "repair them and run the same command again with --overwrite"
        if len(failures) > 1 or written
        else next(iter(failures.values())).cure,
    )
