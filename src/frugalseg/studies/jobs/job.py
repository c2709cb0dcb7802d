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
from typing import Any, ClassVar, Protocol

from frugalseg.options import EvaluateOptions, PrepareOptions, PretrainOptions


@dataclass(frozen=True, kw_only=True)
class Job:
    """One piece of work.

    Attributes:
        id: also the name of its state, its log and its folder.
        needs: ids of the jobs that must be done before.
        tests: the masks that it makes and evaluates.
        LASTS: whether its result counts as done in later runs of the study. What only reads scans and masks is done
            anew, to find that they are still the same, and needs no GPU.
    """

    LASTS: ClassVar[bool] = False
    id: str
    needs: tuple[str, ...] = ()
    tests: tuple[TestJob, ...] = ()

    @property
    def run(self) -> Path | None:
        """The run folder of its training; None where it trains nothing."""
        return None


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


class MakesMasks(Protocol):
    """Makes masks of test scans, in the job's process."""

    @staticmethod
    def make(options: Any) -> object:
        """Write the masks."""


class Prepares(Protocol):
    """Does what a mask maker needs before the grid is known, in the job's process."""

    @staticmethod
    def prepare(options: Any, threads: int) -> object:
        """Do it, or raise what is wrong."""


class Trains(Protocol):
    """Trains a model, in the job's process."""

    @staticmethod
    def train(options: Any) -> object:
        """Train, into the run folder `options.out`."""

    @staticmethod
    def unlabelled(options: Any) -> str:
        """How it uses unlabelled slices."""


@dataclass(frozen=True, kw_only=True)
class PrepareJob(Job):
    """Make a slice store; of a data set that is only tested on (`test_only`), only a list of its labelled scans."""

    options: PrepareOptions
    phantoms: Phantoms | None = None
    test_only: bool = False


@dataclass(frozen=True, kw_only=True)
class MaskPreparationJob(Job):
    """What a mask maker needs of a test set before anything is trained.

    Attributes:
        maker: the class whose `prepare` does it.
        options: what that is given.
    """

    maker: Prepares
    options: Any


@dataclass(frozen=True, kw_only=True)
class PretrainJob(Job):
    """Pre-train an encoder, for all trials that share it."""

    LASTS: ClassVar[bool] = True
    options: PretrainOptions

    @property
    def run(self) -> Path:
        """See `Job.run`."""
        return self.options.out


@dataclass(frozen=True)
class TestJob:
    """Make masks of one test set, and evaluate them.

    Attributes:
        name: of the test set.
        maker: the class whose `make` makes the masks: a mask maker, or the training whose model predicts.
        make: what that is given.
        evaluate: their evaluation.
    """

    name: str
    maker: MakesMasks
    make: Any
    evaluate: EvaluateOptions


@dataclass(frozen=True, kw_only=True)
class EvaluatedJob(Job):
    """Masks of every test set, and their evaluation."""

    LASTS: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class ModelJob(EvaluatedJob):
    """Train one model, and test it.

    Attributes:
        training: the class whose `train` does it.
        options: what that is given; `options.out` is the run folder.
    """

    training: Trains
    options: Any

    @property
    def run(self) -> Path:
        """See `Job.run`."""
        out: Path = self.options.out
        return out


def short_hash(content: Mapping[str, object]) -> str:
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
