"""How far a running job is, and how long the rest will take."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from frugalseg.engine.files import MODEL_FILE
from frugalseg.engine.schema import Schema, find_fault
from frugalseg.engine.yaml_files import load_yaml
from frugalseg.errors import RunError
from frugalseg.segmentation.presets import PRESETS

TAIL = 4096

PROGRESS = {"step": int, "epoch?": float, "seconds?": float}
LENGTH = Schema(
    {
        **{"steps": int | None, "epochs": int | None},
        **{"preset?": str, "rounds?": int | None, "semi?": str | None},
    },
    RunError,
    "wait until the run is through, or put back the whole file",
    parse=load_yaml,
    valid=lambda options: PRESETS[options.get("preset", "robust")],
)
"""What of a training's config.yaml tells how long it is."""


@dataclass(frozen=True)
class JobProgress:
    """How far a training is.

    Attributes:
        share: in 0…1, or None where the length is not known before.
        text: the same in words.
    """

    share: float | None
    text: str


def read_job_progress(run: Path) -> JobProgress:
    """How far the training in this run folder is, by its metrics.jsonl; of several rounds, all of them together."""
    if (run / MODEL_FILE).is_file():
        return JobProgress(1.0, "testing")
    if not (run / "config.yaml").is_file():
        return JobProgress(0.0, "starting")
    length = _length(LENGTH.read(run / "config.yaml"))
    if not (run / "rounds").is_dir():  # with nothing unlabelled, self-training has no rounds
        length = replace(length, rounds=0)
    finished = sum((run / "rounds" / str(n) / MODEL_FILE).is_file() for n in range(length.rounds))
    prefix = f"training {finished + 1} of {length.rounds + 1}, " if length.rounds else ""
    record = last_record(run if finished == length.rounds else run / "rounds" / str(finished))
    if record is None:
        share, text = 0.0, "starting"
    elif length.steps:
        share, text = record.step / length.steps, f"step {record.step} of {length.steps}"
    elif length.epochs:
        share, text = record.epoch / length.epochs, f"epoch {record.epoch:.0f} of {length.epochs}"
    else:
        return JobProgress(None, f"{prefix}step {record.step}")
    return JobProgress(min(1.0, (finished + share) / (length.rounds + 1)), prefix + text)


@dataclass(frozen=True)
class _Length:
    """What a run has to do: steps or epochs, and rounds of self-training before the last."""

    steps: int | None
    epochs: int | None
    rounds: int = 0


def _length(options: Mapping[str, Any]) -> _Length:
    steps, epochs = options["steps"], options["epochs"]
    if "preset" not in options:
        return _Length(steps, epochs)
    preset = PRESETS[options["preset"]]
    rounds = (options["rounds"] or preset.rounds) if (options["semi"] or preset.semi) == "self-training" else 0
    if steps or epochs:
        return _Length(steps, epochs, rounds)
    return _Length(preset.steps, preset.epochs, rounds)


@dataclass(frozen=True)
class ProgressRecord:
    """One line of metrics.jsonl, as far as it tells how far a training is.

    Attributes:
        step: steps done.
        epoch: epochs done.
        seconds: of training.
    """

    step: int
    epoch: float = 0.0
    seconds: float = 0.0


def last_record(run: Path) -> ProgressRecord | None:
    """The last whole record of a run's metrics.jsonl, or None; only the file's end is read."""
    path = run / "metrics.jsonl"
    if not path.is_file():
        return None
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
        lines = file.read().split(b"\n")[:-1]  # what stands behind the last newline is not whole yet
    for line in reversed(lines):
        try:
            record = json.loads(line)
        except ValueError:  # its beginning was cut off
            continue
        if find_fault(record, PROGRESS) is not None:
            return None
        return ProgressRecord(record["step"], record.get("epoch", 0.0), record.get("seconds", 0.0))
    return None


def training_seconds(run: Path) -> float:
    """Seconds a finished run trained, over all its rounds and resumptions."""
    folders = [*(run / "rounds").glob("*"), run] if (run / "rounds").is_dir() else [run]
    return float(sum(record.seconds for record in map(last_record, folders) if record is not None))


def seconds_left(took: Mapping[str, list[float]], to_do: Iterable[str], at_once: int) -> float | None:
    """An estimate of the seconds until all is done.

    Args:
        took: kind of job → seconds that each finished one of the kind took.
        to_do: the kind of every job that is not done, one entry a job.
        at_once: jobs done at a time.

    Returns:
        None where there is nothing to go by.
    """
    means = {kind: fmean(times) for kind, times in took.items() if times}
    if not means:
        return None
    typical = fmean(means.values())
    return sum(means.get(kind, typical) for kind in to_do) / max(1, at_once)


def in_words(seconds: float | None) -> str:
    """A time as a person says it."""
    if seconds is None:
        return "unknown"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
