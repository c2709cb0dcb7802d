"""A study's jobs as data: what each job does, and which jobs it needs.

Jobs are plain data, so that they can be sent to another process or machine.
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
    """One job.

    Attributes:
        id: also the name of its state, its log and its folder.
        needs: ids of the jobs that must be done before.
        tests: the masks that it makes and evaluates.
        RESULT_IS_KEPT: whether a finished job is skipped in later runs of the study. Jobs that only read scans and
            masks are repeated, to check that these are unchanged; they need no GPU.
    """

    RESULT_IS_KEPT: ClassVar[bool] = False
    id: str
    needs: tuple[str, ...] = ()
    tests: tuple[TestJob, ...] = ()

    @property
    def run(self) -> Path | None:
        """The run folder of its training; None without a training."""
        return None


@dataclass(frozen=True)
class Phantoms:
    """Phantoms to generate before a data set is read.

    Attributes:
        folder: output folder, with subfolders `images` and `labels`.
        name: prefix of the case ids, so that no two data sets share one.
        count: number of patients.
        grid: voxels along left, posterior, superior.
        seed: random seed of the patients.
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
    """Prepares a mask maker before the grid is built, in the job's process."""

    @staticmethod
    def prepare(options: Any, threads: int) -> object:
        """Prepare; raises `FrugalsegError` if the mask maker cannot be used."""


class Trains(Protocol):
    """Trains a model, in the job's process."""

    @staticmethod
    def train(options: Any) -> object:
        """Train into the run folder `options.out`."""

    @staticmethod
    def unlabelled_use(options: Any) -> str:
        """How the training uses unlabelled slices."""


@dataclass(frozen=True, kw_only=True)
class PrepareJob(Job):
    """Make a slice store or, for a data set used only for testing (`test_only`), an index of its labelled scans."""

    options: PrepareOptions
    phantoms: Phantoms | None = None
    test_only: bool = False


@dataclass(frozen=True, kw_only=True)
class MaskPreparationJob(Job):
    """Prepare a mask maker for a test set, before anything is trained.

    Attributes:
        maker: the class whose `prepare` is called.
        options: its argument.
    """

    maker: Prepares
    options: Any


@dataclass(frozen=True, kw_only=True)
class PretrainJob(Job):
    """Pre-train an encoder, for all trials that share it."""

    RESULT_IS_KEPT: ClassVar[bool] = True
    options: PretrainOptions

    @property
    def run(self) -> Path:
        """See `Job.run`."""
        return self.options.out


@dataclass(frozen=True)
class TestJob:
    """Make masks of one test set and evaluate them.

    Attributes:
        name: of the test set.
        maker: the class whose `make` makes the masks: a mask maker, or the training whose model predicts.
        make: its argument.
        evaluate: options of the evaluation.
    """

    name: str
    maker: MakesMasks
    make: Any
    evaluate: EvaluateOptions


@dataclass(frozen=True, kw_only=True)
class EvaluatedJob(Job):
    """Make masks of every test set and evaluate them."""

    RESULT_IS_KEPT: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class ModelJob(EvaluatedJob):
    """Train one model and test it.

    Attributes:
        training: the class whose `train` is called.
        options: its argument; `options.out` is the run folder.
    """

    training: Trains
    options: Any

    @property
    def run(self) -> Path:
        """See `Job.run`."""
        out: Path = self.options.out
        return out


def short_hash(content: Mapping[str, object]) -> str:
    """The first eight hex digits of the SHA-256 of the content."""
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def slug(*parts: object) -> str:
    """Parts of a name joined by dots, with all characters allowed in file names."""
    return ".".join(re.sub(r"[^\w%-]+", "-", str(part)).strip("-") or "-" for part in parts)


def runtime_group(job: str) -> str:
    """Group key for run-time estimates: the method, prefixed with `pretrain.` for pre-training jobs."""
    first, second, *_ = [*job.split("."), ""]
    return f"{first}.{second}" if first == "pretrain" else first
