"""The last lines of a command: where its result lies, and the command that usually comes next.

The command line says them; a function called from Python, and a job of a study, do not.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from frugalseg.commands.table import format_command
from frugalseg.engine.progress import console, say
from frugalseg.errors import FrugalsegError
from frugalseg.options import (
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
    SuperpixelOptions,
)
from frugalseg.records.model import EncoderRecord, SamMixRecord, SegmenterRecord
from frugalseg.records.predictions import PREDICTIONS_FILE, PredictionRecord
from frugalseg.records.store import StoreRecord
from frugalseg.text import pluralize

SCANS, MASKS, TARGET = Path("SCANS"), Path("MASKS"), "ORGAN=VALUE"
PLACEHOLDERS = {
    str(SCANS): "a folder of scans",
    str(MASKS): "a folder of reference masks",
    TARGET: "an organ and its label value",
}
"""What stands for something that only the person knows → what that is."""


def say_result(name: str, options: Any, result: Any) -> None:
    """Say where the result of a command lies, and what may come next."""
    if (
        name in RESULT_LINES and not console.quiet
    ):  # of several processes the first speaks, and has written what is read here
        for line in RESULT_LINES[name](options, result):
            say(line)


def _describe_store(options: PrepareOptions | SuperpixelOptions, store: Any) -> list[str]:
    if options.superpixels if isinstance(options, PrepareOptions) else True:
        further = _format_pretrain(store.folder, "supercl")
    elif store.targets:
        out = _find_free_name(store.folder, "model")
        further = format_command("finetune", FinetuneOptions(data=store.folder, out=out))
    else:
        further = _format_pretrain(store.folder, "simclr")
    return [f"slice store: {store.folder}", _format_next(further)]


def _format_pretrain(store: Path, method: Any) -> str:
    out = _find_free_name(store, "encoder")
    return format_command("pretrain", PretrainOptions(data=store, method=method, out=out))


def _describe_encoder(options: PretrainOptions, run: Any) -> list[str]:
    done = f"encoder: {run.path} ({EncoderRecord.read_run(run.path).method})"
    record = _read_store_record(options.data)
    if record is None or not record.parameters.targets:
        return [done, "next: prepare scans with masks, and give `frugalseg finetune` this encoder by --encoder"]
    further = FinetuneOptions(
        data=options.data,
        split=options.split,
        encoder=run.path,
        out=_find_free_name(run.path, "model"),
        device=options.device,
        threads=options.threads,
    )
    return [done, _format_next(format_command("finetune", further))]


def _describe_model(options: FinetuneOptions | SamMixTrainOptions, run: Any) -> list[str]:
    kind = SamMixRecord if isinstance(options, SamMixTrainOptions) else SegmenterRecord
    record = kind.read_run(run.path)
    dice = record.validation_dice
    judged = "never validated" if dice is None else f"validation Dice {dice:.3f}"
    given = {
        "model": run.path,
        "images": _find_common_folder(_image_paths(_read_store_record(options.data)).values()) or SCANS,
        "out": _find_free_name(run.path, "predictions"),
        "device": options.device,
        "threads": options.threads,
    }
    if isinstance(options, SamMixTrainOptions):
        further = format_command("sam-mix predict", SamMixPredictOptions(**given))
    else:
        further = format_command("predict", PredictOptions(**given))
    return [f"model: {run.path} ({judged}, of step {record.step})", _format_next(further)]


def _describe_masks(
    options: PredictOptions | RefineOptions | PropagateOptions | SamMixPredictOptions, written: Mapping[str, Path]
) -> list[str]:
    record = PredictionRecord.read(options.out / PREDICTIONS_FILE)
    further = EvaluateOptions(
        predictions=options.out,
        references=_find_references(record, written) or MASKS,
        target=[] if record.targets else [TARGET],
        out=_find_free_name(options.out, "evaluation"),
    )
    return [f"{pluralize(len(written), 'mask')}: {options.out}", _format_next(format_command("evaluate", further))]


def _find_references(record: PredictionRecord, written: Iterable[str]) -> Path | None:
    """The masks of the scans that the model's slice store was made from, where all these scans were segmented."""
    try:
        config = yaml.safe_load((Path(record.model or "") / "config.yaml").read_text(encoding="utf-8"))
        known = _mask_paths(_read_store_record(Path(config["data"])))
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):  # no such run any more, or none of ours
        return None
    return _find_common_folder(known.values()) if known and known.keys() <= set(written) else None


def _describe_evaluation(options: EvaluateOptions, summary: object) -> list[str]:
    lines = [f"figures: {options.out} (cases.csv, cases.json, summary.json)"]
    return lines + ([f"report: {options.out / 'report.html'}"] if options.report else [])


def _describe_detection(options: SamMixEvaluateOptions, figures: object) -> list[str]:
    return [f"figures: {options.out}"]


RESULT_LINES: dict[str, Callable[[Any, Any], list[str]]] = {
    "prepare": _describe_store,
    "prepare superpixels": _describe_store,
    "pretrain": _describe_encoder,
    "finetune": _describe_model,
    "predict": _describe_masks,
    "refine": _describe_masks,
    "propagate": _describe_masks,
    "evaluate": _describe_evaluation,
    "sam-mix train": _describe_model,
    "sam-mix predict": _describe_masks,
    "sam-mix evaluate": _describe_detection,
}
"""Command → its options and its result → lines. The other commands say it themselves."""


def _format_next(command: str) -> str:
    """The command, and what must be put into it."""
    filled = [f"{word} means {meaning}" for word, meaning in PLACEHOLDERS.items() if f" {word}" in command]
    return f"next: {command}" + (f"\n      ({', '.join(filled)})" if filled else "")


def _find_free_name(path: Path, word: str) -> Path:
    """A free name beside a folder: model-predictions, model-predictions-2, …"""
    path = path if path.name not in ("", "..") else path.resolve()
    free = path.with_name(f"{path.name}-{word}")
    number = 2
    while free.exists():
        free = path.with_name(f"{path.name}-{word}-{number}")
        number += 1
    return free


def _read_store_record(store: Path) -> StoreRecord | None:
    """store.json, or None where it cannot be read any more: what comes next is a hint, no result."""
    try:
        return StoreRecord.read(store / "store.json")
    except FrugalsegError:
        return None


def _image_paths(record: StoreRecord | None) -> dict[str, Path]:
    """Case id → the scan that a slice store was made from."""
    return {scan.case: Path(scan.image) for scan in record.scans} if record else {}


def _mask_paths(record: StoreRecord | None) -> dict[str, Path]:
    """Case id → the mask that a slice store was made from."""
    return {scan.case: Path(scan.mask) for scan in record.scans if scan.mask} if record else {}


def _find_common_folder(files: Iterable[Path]) -> Path | None:
    """The folder that holds these files, as short as it can be said; None where it is gone."""
    given = list(files)
    if not given:
        return None
    folder = given[0] if len(given) == 1 else Path(os.path.commonpath([file.parent for file in given]))
    if not folder.exists():
        return None
    below = os.path.relpath(folder)
    return folder if below.startswith("..") else Path(below)
