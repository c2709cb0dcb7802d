"""Predictions keep the features of a frozen encoder, so that only the first one has to encode every slice."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from statistics import fmean

from frugalseg.annotation.job_work import JobContext

SLICE_BYTES = 256 * 64 * 64 * 2
"""Of the features of a slice: 256 channels of 64×64 numbers in float16, as LiteMedSAM's and MedSAM's."""
FREE_SHARE = 0.5
"""Largest share of the free disk space that the features may take."""


def cache_words(context: JobContext, cases: Collection[str]) -> list[str]:
    """--cache of a prediction of these cases; none where their features exceed --cache-gb or half of the free space."""
    folder = context.place.features
    folder.mkdir(parents=True, exist_ok=True)
    need = SLICE_BYTES * _estimate_slices(context, cases)
    held = sum(file.stat().st_size for file in folder.rglob("*.safetensors"))
    fits = need <= context.options.cache_gb * 1e9 and need - held <= FREE_SHARE * shutil.disk_usage(folder).free
    return ["--cache", str(folder)] if fits else []


def _estimate_slices(context: JobContext, cases: Collection[str]) -> float:
    """Slices of these cases; those that were never opened are taken to have as many as the others on average."""
    known = [summary.shape[2] for summary in context.cases.summaries(context.scans.paths) if summary.shape is not None]
    return fmean(known) * len(cases) if known else 0.0
