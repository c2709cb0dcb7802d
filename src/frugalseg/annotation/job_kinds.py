"""The table of kinds of jobs."""

from __future__ import annotations

from collections.abc import Mapping

from frugalseg.annotation.job_work import JobWork
from frugalseg.annotation.messages import JobKind
from frugalseg.annotation.scan_jobs import PropagateWork, RefineWork
from frugalseg.annotation.training_jobs import PredictWork, TrainWork

JOB_KINDS: Mapping[JobKind, JobWork] = {
    "propagate": PropagateWork(),
    "refine": RefineWork(),
    "train": TrainWork(),
    "predict": PredictWork(),
}
