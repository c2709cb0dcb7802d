"""Weights of promptable models in a plan."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from frugalseg.engine.files import sha256
from frugalseg.errors import FrugalsegError
from frugalseg.studies.plan.options import Values
from frugalseg.studies.plan.yaml_source import YamlValue, flags_to_keys


def resolve_weights(entry: YamlValue, key: str, name: str, values: Values) -> Values:
    """The values, with a path of weights resolved relative to the plan's folder; names take precedence over files.

    Raises:
        OptionError: the weights are not installed.
    """
    from frugalseg.promptable.load import find_weights
    from frugalseg.weights.catalogue import CATALOGUE
    from frugalseg.weights.folder import find_installed

    beside = (entry.file.parent / Path(name).expanduser()).resolve()
    if name not in {*CATALOGUE, *find_installed()} and beside.exists():
        return {**values, key: str(beside)}
    try:
        find_weights(name)
    except FrugalsegError as error:
        raise entry.mapping().get(key, entry).error(flags_to_keys(error.problem), error.cure) from None
    return values


@cache
def hash_weights(name: str) -> str:
    """SHA-256 of the weights file of this name or path."""
    from frugalseg.promptable.load import find_weights

    return sha256(find_weights(name))
