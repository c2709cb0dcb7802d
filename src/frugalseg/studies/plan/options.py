"""The options of commands in a plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

from frugalseg.options import PrepareOptions, PretrainOptions

Values = Mapping[str, Any]
"""Option → value, typed as in the command's dataclass, or as plain data."""

UNKNOWN_PATH = Path("-")
"""Placeholder for paths that are not known yet, where options are only checked."""

GREY_OPTIONS = ("modality", "window", "percentiles")
"""Options of the intensity scaling; where a method's plan gives none, they are those of the test set."""

SET_FOR_TRAININGS = ("data", "out", "split", "seed", "resume", "checkpoint_minutes", "backbone", "threads")
SET_FOR_MASKS = ("images", "series", "out", "case", "target", "cache", "overwrite", "resume", "oracle", "threads")
"""Options that the study sets: of every training, and of every command that makes masks."""


def make_options(kind: type[Any], values: Values) -> Any:
    """A command's options with the values of a plan; required ones without a value are set to `UNKNOWN_PATH`.

    Raises:
        FrugalsegError: the command refuses them.
    """
    needed = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
    return kind(**{**dict.fromkeys(needed, UNKNOWN_PATH), **values})


@dataclass(frozen=True)
class CommandOptions:
    """The options of a command that a plan may hold.

    Attributes:
        kind: the dataclass of the command's options.
        set_by_study: options that the study sets, from the grid, the data sets and the output folder.
    """

    kind: type[Any]
    set_by_study: tuple[str, ...]

    @property
    def in_plans(self) -> list[str]:
        """Names of the options that a plan may give."""
        return [f.name for f in fields(self.kind) if f.name not in self.set_by_study]

    def fill_defaults(self, values: Values) -> Values:
        """The values, and the defaults of all other options that a plan may hold, as plain data."""
        options = asdict(make_options(self.kind, values))
        return to_plain_values({name: options[name] for name in self.in_plans})


PREPARE = CommandOptions(PrepareOptions, ("out", "workers", "threads"))
PRETRAIN = CommandOptions(PretrainOptions, SET_FOR_TRAININGS)


def to_plain_values(values: Values) -> Values:
    """Values as they are written to YAML."""

    def to_plain(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return [to_plain(v) for v in value]
        return str(value) if isinstance(value, Path) else value

    return {name: to_plain(value) for name, value in values.items()}
