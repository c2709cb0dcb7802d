"""The table of kinds of jobs."""

from __future__ import annotations

from collections.abc import Mapping

from frugalseg.annotation.job_work import JobWork
from frugalseg.annotation.messages import JobKind
from frugalseg.annotation.scan_jobs import PropagateWork, RefineWork
from frugalseg.annotation.suggest_job import SuggestWork
from frugalseg.annotation.training_jobs import PredictWork, TrainWork

JOB_KINDS: Mapping[JobKind, JobWork] = {
    "propagate": PropagateWork(),
    "refine": RefineWork(),
    "suggest": SuggestWork(),
    "train": TrainWork(),
    "predict": PredictWork(),
}
