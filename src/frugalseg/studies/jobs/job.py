"""A study's jobs as data: what each one does, and which others it waits for.

Nothing here computes, so that a job can be sent to another process or machine.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frugalseg.options import (
    EvaluateOptions,
    FinetuneOptions,
    PredictOptions,
    PrepareOptions,
    PretrainOptions,
    PropagateOptions,
    RefineOptions,
    SamMixPredictOptions,
    SamMixTrainOptions,
)


@dataclass(frozen=True, kw_only=True)
class Job:
    """One piece of work.

    Attributes:
        id: also the name of its state, its log and its folder.
        needs: ids of the jobs that must be done before.
    """

    id: str
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Phantoms:
    """Scans to make before they can be read.

    Attributes:
        folder: where; it gets `images` and `labels`.
        name: what their case ids begin with, so that no two data sets share one.
        count: number of patients.
        grid: voxels along left, posterior, superior.
        seed: which patients.
    """

    folder: Path
    name: str
    count: int
    grid: tuple[int, int, int]
    seed: int


@dataclass(frozen=True, kw_only=True)
class PrepareJob(Job):
    """Make a slice store; of a data set that is only tested on (`look`), no more than a list of its labelled scans."""

    options: PrepareOptions
    phantoms: Phantoms | None = None
    look: bool = False


@dataclass(frozen=True, kw_only=True)
class MasksJob(Job):
    """Look at the masks that another program made of a test set.

    Attributes:
        images, masks: folders.
        case: the test scans.
        target: organs and the label values they have in these masks.
        stated: whether the plan says so; else they should be those of the references.
        out: the JSON file that lists them.
        workers: masks looked at at the same time.
    """

    images: Path
    masks: Path
    case: tuple[str, ...]
    target: tuple[str, ...]
    stated: bool
    out: Path
    workers: int | None = None


@dataclass(frozen=True, kw_only=True)
class PretrainJob(Job):
    """Pre-train an encoder, for all cells that share it."""

    options: PretrainOptions


@dataclass(frozen=True)
class Carry:
    """Carry the middle slice of each mask through its scan.

    Attributes:
        masks: the folder of masks.
        drawn: whether a person drew them. The middle slices are then no result, and are not scored.
        propagate: how; its `annotations` are made here, of these masks.
    """

    masks: Path
    drawn: bool
    propagate: PropagateOptions


@dataclass(frozen=True)
class Take:
    """Take the masks that another program made.

    Attributes:
        images, masks: folders.
        case: the scans.
        written: organs and the label values they have in these masks.
        target: organs and the label values they get.
        out: folder for them.
    """

    images: Path
    masks: Path
    case: tuple[str, ...]
    written: tuple[str, ...]
    target: tuple[str, ...]
    out: Path


Make = PredictOptions | SamMixPredictOptions | RefineOptions | Carry | Take
"""What makes masks of a test set."""


@dataclass(frozen=True)
class TestJob:
    """Make masks of one test set, and evaluate them.

    Attributes:
        name: of the test set.
        make: what makes the masks.
        evaluate: their evaluation.
    """

    name: str
    make: Make
    evaluate: EvaluateOptions


@dataclass(frozen=True, kw_only=True)
class EvaluatedJob(Job):
    """Masks of every test set, and their evaluation."""

    tests: tuple[TestJob, ...]


@dataclass(frozen=True, kw_only=True)
class ModelJob(EvaluatedJob):
    """Train one model, and test it."""

    options: FinetuneOptions | SamMixTrainOptions


def short_hash(content: Mapping[str, Any]) -> str:
    """Eight characters that differ where the content does."""
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def slug(*parts: object) -> str:
    """Parts of a name, joined so that they can be a file's."""
    return ".".join(re.sub(r"[^\w%-]+", "-", str(part)).strip("-") or "-" for part in parts)


def kind_of(job: str) -> str:
    """Group key for run-time estimates: the method, prefixed with `pretrain.` for pre-training jobs."""
    first, second, *_ = [*job.split("."), ""]
    return f"{first}.{second}" if first == "pretrain" else first
