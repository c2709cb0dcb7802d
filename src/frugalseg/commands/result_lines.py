"""The last lines that a command prints: where its result is, and the command that usually comes next.

Only the command line prints them, not functions called from Python or jobs of a study.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from frugalseg._version import __version__
from frugalseg.commands.table import format_command, is_default
from frugalseg.confidence.table import describe_least_certain
from frugalseg.engine.host_memory import peak_memory
from frugalseg.engine.progress import console, format_duration, is_verbose, say, tell
from frugalseg.errors import FrugalsegError
from frugalseg.options import (
    CalibrateOptions,
    EvaluateOptions,
    FinetuneOptions,
    PredictOptions,
    PrepareOptions,
    PretrainOptions,
    PropagateOptions,
    RefineOptions,
    SamMixEvaluateOptions,
    SamMixPredictOptions,
    SamMixTrainOptions,
    SuggestOptions,
    SuperpixelOptions,
)
from frugalseg.records.confidence import Promise
from frugalseg.records.networks import EncoderRecord, SegmenterRecord
from frugalseg.records.predictions import PREDICTIONS_FILE, PredictionRecord
from frugalseg.records.propagation_calibration import PropagationCalibration
from frugalseg.records.sam_mix import SamMixRecord
from frugalseg.records.store import StoreRecord
from frugalseg.records.suggestions import SUGGESTIONS_FILE
from frugalseg.text import align_columns, pluralize

SCANS, MASKS, TARGET = Path("SCANS"), Path("MASKS"), "ORGAN=VALUE"
PLACEHOLDERS = {
    str(SCANS): "a folder of scans",
    str(MASKS): "a folder of reference masks",
    TARGET: "an organ and its label value",
}
"""Placeholder for what only the user knows → its meaning."""


def say_result(name: str, options: Any, result: Any) -> None:
    """Print where the result of a command is, and what may come next."""
    # Of several processes only the first prints; only there are the files read here certain to be written.
    if name in RESULT_LINES and not console.quiet:
        for line in RESULT_LINES[name](options, result):
            say(line)


def tell_settings(name: str, options: Any) -> None:
    """With --verbose, print the command with all its options, and the versions."""
    if not is_verbose():
        return
    tell(f"frugalseg {__version__}, Python {platform.python_version()}, {platform.platform()}")
    tell(f"working folder: {Path.cwd()}")
    tell(f"command: {format_command(name, options)}")
    defaults = [f for f in fields(options) if is_default(f, getattr(options, f.name))]
    tell(f"defaults: {', '.join(f'{f.name}={getattr(options, f.name)}' for f in defaults)}")


def tell_usage(begun: float) -> None:
    """With --verbose, print how long a command took since `begun` (`time.monotonic`), and its peak memory."""
    peak = peak_memory()
    tell(f"took {format_duration(time.monotonic() - begun)}" + (f", peak memory {peak / 1e9:.2f} GB" if peak else ""))


def _describe_store(options: PrepareOptions | SuperpixelOptions, store: Any) -> list[str]:
    if options.superpixels if isinstance(options, PrepareOptions) else True:
        following = _format_pretrain(store.folder, "supercl")
    elif store.targets:
        out = _find_free_name(store.folder, "model")
        following = format_command("finetune", FinetuneOptions(data=store.folder, out=out))
    else:
        following = _format_pretrain(store.folder, "simclr")
    return [f"slice store: {store.folder}", _format_next(following)]


def _format_pretrain(store: Path, method: Any) -> str:
    out = _find_free_name(store, "encoder")
    return format_command("pretrain", PretrainOptions(data=store, method=method, out=out))


def _describe_encoder(options: PretrainOptions, run: Any) -> list[str]:
    done = f"encoder: {run.path} ({EncoderRecord.read_run(run.path).method})"
    record = _read_store_record(options.data)
    if record is None or not record.parameters.targets:
        return [done, "next: prepare scans with masks, and give `frugalseg finetune` this encoder by --encoder"]
    following = FinetuneOptions(
        data=options.data,
        split=options.split,
        encoder=run.path,
        out=_find_free_name(run.path, "model"),
        device=options.device,
        threads=options.threads,
    )
    return [done, _format_next(format_command("finetune", following))]


def _describe_models(options: FinetuneOptions, runs: Any) -> list[str]:
    """Of a model, or of those of a cross-validation."""
    if not isinstance(runs, list):
        return _describe_model(options, runs)
    dice = [SegmenterRecord.read_run(run.path).validation_dice for run in runs]
    known = [one for one in dice if one is not None]
    following = PredictOptions(
        model=[run.path for run in runs],
        images=_find_common_folder(_image_paths(_read_store_record(options.data)).values()) or SCANS,
        out=_find_free_name(options.out, "predictions"),
    )
    figures = (("unknown" if one is None else f"{one:.3f}",) for one in dice)
    rows = [(run.path.name, *figure) for run, figure in zip(runs, figures, strict=True)]
    mean = [f"mean validation Dice of the folds: {sum(known) / len(known):.3f}"] if known else []
    return [
        align_columns([("fold", "validation Dice"), *rows]),
        *mean,
        f"models: {options.out}",
        _format_next(format_command("predict", following)),
    ]


def _describe_model(options: FinetuneOptions | SamMixTrainOptions, run: Any) -> list[str]:
    kind = SamMixRecord if isinstance(options, SamMixTrainOptions) else SegmenterRecord
    record = kind.read_run(run.path)
    dice = record.validation_dice
    validated = "not validated" if dice is None else f"validation Dice {dice:.3f}"
    given = {
        "model": run.path,
        "images": _find_common_folder(_image_paths(_read_store_record(options.data)).values()) or SCANS,
        "out": _find_free_name(run.path, "predictions"),
        "device": options.device,
        "threads": options.threads,
    }
    if isinstance(options, SamMixTrainOptions):
        following = format_command("sam-mix predict", SamMixPredictOptions(**given))
    else:
        following = format_command("predict", PredictOptions(**given))
    return [
        *_format_organ_dice(record.validation_dice_of_organs),
        f"model: {run.path} ({validated}, of step {record.step})",
        _format_next(following),
    ]


KINDS_OF_MASKS = {"probabilities": "predicted", "agreement": "refined", "propagation": "propagated"}


def _describe_calibration(options: CalibrateOptions, record: SegmenterRecord | PropagationCalibration) -> list[str]:
    table = [("masks", "organ", "patients", "bound for scans", "bound for slices")]
    found = record.calibration if isinstance(record, SegmenterRecord) else {"propagation": record.organs}
    for source, organs in found.items():
        table += [
            (KINDS_OF_MASKS[source], organ, str(own.patients), _format_promise(own.scans), _format_promise(own.slices))
            for organ, own in organs.items()
        ]
    return [align_columns(table), f"calibrated: {options.model or options.propagated}"]


def _format_promise(promise: Promise) -> str:
    """In how many of n patients the bound holds."""
    return "too few patients" if promise.holds_for is None else f"in {promise.holds_for:.0%} of patients"


def _format_organ_dice(dice: Mapping[str, float]) -> list[str]:
    """A table of the validation Dice of each organ; none for a single organ, whose Dice is that of the model."""
    if len(dice) < 2:
        return []
    return [align_columns([("organ", "validation Dice"), *((organ, f"{value:.3f}") for organ, value in dice.items())])]


def _describe_masks(
    options: PredictOptions | RefineOptions | PropagateOptions | SamMixPredictOptions, written: Mapping[str, Path]
) -> list[str]:
    record = PredictionRecord.read(options.out / PREDICTIONS_FILE)
    following = EvaluateOptions(
        predictions=options.out,
        references=_find_references(record, written) or MASKS,
        target=[] if record.targets else [TARGET],
        out=_find_free_name(options.out, "evaluation"),
    )
    return [
        *filter(None, [describe_least_certain(record.confidence)]),
        f"{pluralize(len(written), 'mask')}: {options.out}",
        _format_next(format_command("evaluate", following)),
    ]


def _find_references(record: PredictionRecord, written: Iterable[str]) -> Path | None:
    """Folder of the masks of the model's slice store, if all scans of the store were segmented."""
    try:
        config = yaml.safe_load((Path(record.model or "") / "config.yaml").read_text(encoding="utf-8"))
        known = _mask_paths(_read_store_record(Path(config["data"])))
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        yaml.YAMLError,
    ):  # no run of this program, or deleted
        return None
    return _find_common_folder(known.values()) if known and known.keys() <= set(written) else None


def _describe_suggestions(options: SuggestOptions, record: object) -> list[str]:
    lines = [f"suggestions: {options.out / SUGGESTIONS_FILE}, pictures: {options.out / 'suggestions.png'}"]
    if options.for_ == "model":
        lines.append("if a slice does not show the organ, outline the nearest slice of the scan that does")
    return lines


def _describe_evaluation(options: EvaluateOptions, summary: object) -> list[str]:
    lines = [f"figures: {options.out} (cases.csv, cases.json, summary.json)"]
    return lines + ([f"report: {options.out / 'report.html'}"] if options.report else [])


def _describe_detection(options: SamMixEvaluateOptions, figures: object) -> list[str]:
    return [f"figures: {options.out}"]


RESULT_LINES: dict[str, Callable[[Any, Any], list[str]]] = {
    "prepare": _describe_store,
    "prepare superpixels": _describe_store,
    "pretrain": _describe_encoder,
    "finetune": _describe_models,
    "calibrate": _describe_calibration,
    "predict": _describe_masks,
    "refine": _describe_masks,
    "propagate": _describe_masks,
    "suggest": _describe_suggestions,
    "evaluate": _describe_evaluation,
    "sam-mix train": _describe_model,
    "sam-mix predict": _describe_masks,
    "sam-mix evaluate": _describe_detection,
}
"""Command → function of its options and its result that returns the lines. Other commands print their own."""


def _format_next(command: str) -> str:
    """The line with the next command, and the meaning of its placeholders."""
    filled = [f"{word} means {meaning}" for word, meaning in PLACEHOLDERS.items() if f" {word}" in command]
    return f"next: {command}" + (f"\n      ({', '.join(filled)})" if filled else "")


def _find_free_name(path: Path, word: str) -> Path:
    """A path that does not exist yet beside a folder: model-predictions, model-predictions-2, …"""
    path = path if path.name not in ("", "..") else path.resolve()
    free = path.with_name(f"{path.name}-{word}")
    number = 2
    while free.exists():
        free = path.with_name(f"{path.name}-{word}-{number}")
        number += 1
    return free


def _read_store_record(store: Path) -> StoreRecord | None:
    """store.json, or None where it cannot be read: without it there is only no hint."""
    try:
        return StoreRecord.read(store / "store.json")
    except FrugalsegError:
        return None


def _image_paths(record: StoreRecord | None) -> dict[str, Path]:
    """Case id → scan of a slice store."""
    return {scan.case: Path(scan.image) for scan in record.scans} if record else {}


def _mask_paths(record: StoreRecord | None) -> dict[str, Path]:
    """Case id → mask of a slice store."""
    return {scan.case: Path(scan.mask) for scan in record.scans if scan.mask} if record else {}


def _find_common_folder(files: Iterable[Path]) -> Path | None:
    """The folder that contains these files, relative where that is shorter; None if it no longer exists."""
    given = list(files)
    if not given:
        return None
    folder = given[0] if len(given) == 1 else Path(os.path.commonpath([file.parent for file in given]))
    if not folder.exists():
        return None
    below = os.path.relpath(folder)
    return folder if below.startswith("..") else Path(below)
