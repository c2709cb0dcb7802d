"""A command's options as a plan gives them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

from frugalseg.options import PrepareOptions, PretrainOptions

Values = Mapping[str, Any]
"""Option → value as YAML and the command's dataclass have it, or what is left of them as plain data."""

NOWHERE = Path("-")
"""Stands for a path that is not known yet, where options are only checked."""

SHOWN = ("modality", "window", "percentiles")
"""Options of these that a test set's own take the place of, where the plan gives none."""

OF_RUNS = ("data", "out", "split", "seed", "resume", "checkpoint_minutes", "backbone", "threads")
OF_MASKS = ("images", "out", "case", "target", "cache", "overwrite", "resume", "oracle", "threads")
"""Options of every training, and of every command that makes masks, that the study sets."""


def of_plan(kind: type[Any], values: Values) -> Any:
    """A command's options as a plan gives them, every path that is not known yet being `NOWHERE`.

    Raises:
        FrugalsegError: the command refuses them.
    """
    needed = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
    return kind(**{**dict.fromkeys(needed, NOWHERE), **values})


@dataclass(frozen=True)
class CommandOptions:
    """The options of a command that a plan may hold.

    Attributes:
        kind: the dataclass that the command takes.
        set_by_study: those that the study itself sets, from the grid, the data sets and the output folder.
    """

    kind: type[Any]
    set_by_study: tuple[str, ...]

    @property
    def in_plans(self) -> list[str]:
        """Names of the options that a plan may give."""
        return [f.name for f in fields(self.kind) if f.name not in self.set_by_study]

    def filled(self, values: Values) -> Values:
        """The values with the defaults of all others that a plan may hold, as plain data."""
        options = asdict(of_plan(self.kind, values))
        return simple({name: options[name] for name in self.in_plans})


PREPARE = CommandOptions(PrepareOptions, ("out", "workers", "threads"))
PRETRAIN = CommandOptions(PretrainOptions, OF_RUNS)


def simple(values: Values) -> Values:
    """Values as YAML keeps them."""

    def plain(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return [plain(v) for v in value]
        return str(value) if isinstance(value, Path) else value

    return {name: plain(value) for name, value in values.items()}
