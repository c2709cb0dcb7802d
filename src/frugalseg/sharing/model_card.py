"""The model card: what a published model is, made from the records of its training and of its evaluation."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from frugalseg.errors import OptionError
from frugalseg.options import PushOptions, find_folder
from frugalseg.records.networks import SegmenterRecord
from frugalseg.records.predictions import PredictionRecord
from frugalseg.records.summary import GroupSummary, MetricSummary, OrganSummary, SummaryRecord
from frugalseg.text import pluralize
from frugalseg.weights.catalogue import CATALOGUE

METRICS = {"dice": "Dice", "nsd": "surface Dice", "hd95_mm": "HD95, mm"}
"""Metrics that the card states, and their headings."""
ROLE_WORDS = {
    "train": "whose masks it was trained on",
    "validation": "that chose the training step and the post-processing",
    "pretrain": "used without their masks",
    "unused": "of training patients, not used",
    "test": "of test patients, held out",
}
NOT_EVALUATED = (
    "Not stated: the model was published without an evaluation. Do not use it before you have measured, on "
    "scans of your own, how well it does."
)


def write_card(options: PushOptions, record: SegmenterRecord, weights_sha256: str) -> str:
    """The card in Markdown, with the Hub's YAML in front.

    Args:
        options: of the command.
        record: model.json as it is published.
        weights_sha256: of the weights.

    Raises:
        OptionError: the evaluation is one of another model.
        RunError: summary.json of the evaluation is missing or damaged.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    # Markdown, not HTML: names are escaped where they could break a table.
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, autoescape=False)
    environment.loader = PackageLoader("frugalseg", "sharing")
    group = None if options.evaluation is None else _read_group(options.evaluation, weights_sha256)
    scale = record.preprocessing.intensity
    limits = f"{scale.low:g} to {scale.high:g}"
    return environment.get_template("model_card.md.j2").render(
        record=record,
        repo=options.repo if find_folder(options.repo) is None else "./this-folder",
        licence=options.licence,
        data_licence=options.data_licence,
        keep_names=options.keep_names,
        organs=list(map(_escape, record.targets)),
        organs_with_values=", ".join(f"{_escape(o)} {values[0]}" for o, values in record.targets.items()),
        modality="CT" if scale.kind == "ct" else "MR",
        intensity=f"{limits} HU" if scale.kind == "ct" else f"percentiles {limits}",
        weights_sha256=weights_sha256,
        annotation=list(_list_annotation(record)),
        roles=_describe_roles(record),
        result_text=NOT_EVALUATED if group is None else _describe_result(*group),
        metric_names=list(METRICS.values()),
        figures=[] if group is None or group[1] is None else _list_figures(group[1]),
        interval="" if group is None else f"Mean over scans, with its 95% confidence interval: {group[0].interval}",
        unlearned=list(map(_escape, record.unlearned_organs)),
        weights=list(_list_weights(record)),
    )


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _read_group(evaluation: Path, weights_sha256: str) -> tuple[SummaryRecord, GroupSummary | None]:
    """The evaluation, and its group of scans that the model has not seen; None where there are none."""
    summary = SummaryRecord.read(evaluation / "summary.json")
    predictions = summary.options.get("predictions")
    made = PredictionRecord.read_beside(Path(str(predictions))) if predictions else None
    if made is not None and made.weights_sha256 not in (None, weights_sha256):
        raise OptionError(
            f"--evaluation {evaluation} is one of the masks of another model ({made.model})",
            "evaluate masks that this model predicted, or leave it out",
        )
    return summary, summary.groups.get("unseen")


def _describe_result(summary: SummaryRecord, group: GroupSummary | None) -> str:
    if group is None or not group.scans:
        return (
            "**No test patients**: the model has seen every scan that it was evaluated on, or it is not known which: "
            "nothing is known about new patients. Do not use it before you have measured, on scans of your own, how "
            "well it does."
        )
    missing = "" if summary.complete else " Some masks could not be compared."
    return (
        f"On {pluralize(group.scans, 'scan')} that the model has never seen.{missing} A missed organ has a Dice of 0."
    )


def _list_figures(group: GroupSummary) -> list[list[str]]:
    return [
        [
            _escape(organ),
            str(sum(n for outcome, n in own.counts.items() if outcome != "both_empty")),
            *(_format_metric(own, metric) for metric in METRICS),
            str(len(own.missed)),
        ]
        for organ, own in group.organs.items()
        if group.scans
    ]


def _format_metric(organ: OrganSummary, name: str) -> str:
    """The mean and its interval, with three decimals, one for mm."""
    figures: MetricSummary | None = organ.metrics.get(name)
    if figures is None or figures.mean is None:
        return "–"
    decimals = 1 if name.endswith("mm") else 3
    interval = "" if figures.ci95 is None else f" ({figures.ci95[0]:.{decimals}f}–{figures.ci95[1]:.{decimals}f})"
    return f"{figures.mean:.{decimals}f}{interval}"


def _list_annotation(record: SegmenterRecord) -> Iterator[tuple[str, str]]:
    """Headings and counts of the labels used."""
    used = record.annotation
    yield "masks", f"{pluralize(used.masks, 'slice')} of {pluralize(used.mask_scans, 'scan')} (budget {used.budget})"
    slices = "" if used.validation_masks is None else f", {pluralize(used.validation_masks, 'slice')}"
    yield "masks to choose the model by", f"{pluralize(used.validation_scans, 'scan')}{slices}"
    if used.unlabelled_slices:
        unlabelled = f"{pluralize(used.unlabelled_slices, 'slice')} of {pluralize(used.unlabelled_scans, 'scan')}"
        yield "slices without labels", unlabelled
    if used.propagated_slices:
        yield "of these, with propagated labels", pluralize(used.propagated_slices, "slice")
    if used.organ_present_labels:
        yield "image-level labels in pre-training", pluralize(used.organ_present_labels, "slice")
    fingerprints = "\n".join(sorted(scan.fingerprint for scan in record.scans))
    yield "SHA-256 of the scans' fingerprints", f"`{hashlib.sha256(fingerprints.encode()).hexdigest()}`"


def _describe_roles(record: SegmenterRecord) -> list[str]:
    counts = Counter(scan.role for scan in record.scans)
    return [f"{pluralize(counts[role], 'scan')} {words}" for role, words in ROLE_WORDS.items() if counts[role]]


def _list_weights(record: SegmenterRecord) -> Iterator[tuple[str, str]]:
    """Other weights that went into the model, and their licences."""
    for what, used in (
        ("frozen encoder", record.frozen_encoder),
        ("refinement of pseudo-labels", record.pseudo_labels_refined_by),
        ("propagation of outlines", record.outlines_propagated_by),
    ):
        if used is not None:
            entry = CATALOGUE.get(used.model)
            yield f"{used.name} ({what})", entry.licence if entry else "not known"
    if record.published_weights is not None:
        yield f"{record.published_weights.kind} (initial weights)", "see where they were published"
