"""Weights of promptable models that a plan names."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from frugalseg.engine.files import sha256
from frugalseg.errors import FrugalsegError
from frugalseg.studies.plan.options import Values
from frugalseg.studies.plan.yaml_source import YamlValue, without_flags


def with_weights(entry: YamlValue, key: str, name: str, values: Values) -> Values:
    """The values, a path of weights taken from the plan's folder as all other paths are; names go before files.

    Weights that are not here end a study before its first run.
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
        raise entry.mapping().get(key, entry).error(without_flags(error.problem), error.cure) from None
    return values


@cache
def weights_sha256(name: str) -> str:
    """SHA-256 of the file of weights that a name, or a path, stands for."""
    from frugalseg.promptable.load import find_weights

    return sha256(find_weights(name))
