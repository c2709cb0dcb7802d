"""The progress of a running job, and the estimated time left."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from frugalseg.engine.files import MODEL_FILE
from frugalseg.engine.run import read_length
from frugalseg.engine.schema import Schema, find_fault
from frugalseg.engine.yaml_files import load_yaml
from frugalseg.errors import RunError
from frugalseg.segmentation.presets import PRESETS

TAIL = 4096

PROGRESS = {"step": int, "seconds?": float}
ROUNDS = Schema(
    {"preset": str, "rounds": int | None},
    RunError,
    "wait until the run is finished, or restore the file",
    parse=load_yaml,
    valid=lambda options: PRESETS[options["preset"]],
)
"""The options in the config.yaml of a self-training that determine its number of rounds."""


@dataclass(frozen=True)
class JobProgress:
    """The progress of a training.

    Attributes:
        share: in 0…1, or None where the length is not known in advance.
        text: the progress in words.
    """

    share: float | None
    text: str


def read_job_progress(run: Path) -> JobProgress:
    """The progress of the training in this run folder, from its metrics.jsonl; over all rounds if there are several."""
    if (run / MODEL_FILE).is_file():
        return JobProgress(1.0, "testing")
    rounds = _count_rounds(run)
    finished = sum((run / "rounds" / str(n) / MODEL_FILE).is_file() for n in range(rounds))
    prefix = f"training {finished + 1} of {rounds + 1}, " if rounds else ""
    current = run if finished == rounds else run / "rounds" / str(finished)
    record, steps = read_last_record(current), read_length(current)
    if record is None:
        share, text = 0.0, "starting"
    elif steps is None:
        return JobProgress(None, f"{prefix}step {record.step}")
    else:
        share, text = record.step / max(1, steps), f"step {record.step} of {steps}"
    return JobProgress((finished + share) / (rounds + 1), prefix + text)


def _count_rounds(run: Path) -> int:
    """The rounds of a self-training before the last training; 0 for other trainings, and without unlabelled slices."""
    if not (run / "rounds").is_dir():
        return 0
    options = ROUNDS.read(run / "config.yaml")
    return int(options["rounds"] or PRESETS[options["preset"]].rounds)


@dataclass(frozen=True)
class ProgressRecord:
    """The progress in one line of metrics.jsonl.

    Attributes:
        step: steps done.
        seconds: training time so far.
    """

    step: int
    seconds: float = 0.0


def read_last_record(run: Path) -> ProgressRecord | None:
    """The last complete record of a run's metrics.jsonl, or None; only the file's end is read."""
    path = run / "metrics.jsonl"
    if not path.is_file():
        return None
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
        lines = file.read().split(b"\n")[:-1]  # the text after the last newline is not complete yet
    for line in reversed(lines):
        try:
            record = json.loads(line)
        except ValueError:  # the start of the line was not read
            continue
        if find_fault(record, PROGRESS) is not None:
            return None
        return ProgressRecord(record["step"], record.get("seconds", 0.0))
    return None


def read_training_seconds(run: Path) -> float:
    """The training time of a finished run in seconds, over all its rounds and resumptions."""
    folders = [*(run / "rounds").glob("*"), run] if (run / "rounds").is_dir() else [run]
    return float(sum(record.seconds for record in map(read_last_record, folders) if record is not None))


def estimate_seconds_left(took: Mapping[str, list[float]], to_do: Iterable[str], at_once: int) -> float | None:
    """An estimate of the seconds until all jobs are done.

    Args:
        took: group of jobs (`job.runtime_group`) → seconds of each finished job of the group.
        to_do: the group of every job that is not done, one entry per job.
        at_once: jobs at a time.

    Returns:
        None if no job is finished.
    """
    means = {kind: fmean(times) for kind, times in took.items() if times}
    if not means:
        return None
    typical = fmean(means.values())
    return sum(means.get(kind, typical) for kind in to_do) / max(1, at_once)


def format_duration(seconds: float | None) -> str:
    """A duration for people, as 45 s, 12 min or 3.5 h; None is "unknown"."""
    if seconds is None:
        return "unknown"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
