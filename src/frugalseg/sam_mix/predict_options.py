"""Translate `predict` options into `sam-mix predict` options.

Does not import transformers, which takes seconds: every prediction checks its run's kind, and few are SAM-Mix.
"""

from __future__ import annotations

from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

from frugalseg.engine.files import MODEL_FILE
from frugalseg.errors import OptionError
from frugalseg.options import PredictOptions, SamMixPredictOptions
from frugalseg.records.model import read_model_kind
from frugalseg.records.sam_mix import SamMixRecord


def is_sam_mix(run: Path) -> bool:
    """Whether a folder holds a finished SAM-Mix run; False without a model."""
    return (run / MODEL_FILE).is_file() and read_model_kind(run) == SamMixRecord.KIND


def sam_mix_options(options: PredictOptions) -> SamMixPredictOptions:
    """The options that both commands have, for `sam-mix predict`.

    Raises:
        OptionError: an option was given that `sam-mix predict` does not have.
    """
    shared = {field.name for field in fields(SamMixPredictOptions)}
    given = {field.name: getattr(options, field.name) for field in fields(PredictOptions)} | {"model": options.runs[0]}
    if len(options.runs) > 1:
        raise OptionError(
            f"--model {options.runs[0]} is a run of SAM-Mix, which is not averaged with other models", "give it alone"
        )
    for field in fields(PredictOptions):
        if field.name not in shared and given[field.name] != _default_value(field):
            flag = "--" + field.name.replace("_", "-")
            raise OptionError(
                f"{flag} {given[field.name]}: {options.runs[0]} is a run of SAM-Mix, which does not use it",
                f"leave {flag} out",
            )
    return SamMixPredictOptions(**{name: value for name, value in given.items() if name in shared})


def _default_value(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()
