"""The organs to segment: parsing and use of `--target liver=6`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from frugalseg.errors import OptionError

Targets = Mapping[str, tuple[int, ...]]
"""Organ → its values in the user's label files, in the order of the classes 1, 2, …"""

MAX_TARGETS = 254
MAX_VALUE = 65535
_TARGET_PATTERN = re.compile(r"(?P<name>[\w .-]+)=(?P<values>-?\d+(,-?\d+)*)")


def parse_targets(texts: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """Read `["liver=1,2", "spleen=3"]` as `{"liver": (1, 2), "spleen": (3,)}`.

    Raises:
        OptionError: a text is not name=value[,value…], a name or a value occurs twice, or a value is 0, which is the
            background.
    """
    targets: dict[str, tuple[int, ...]] = {}
    owner: dict[int, str] = {}
    for text in texts:
        match = _TARGET_PATTERN.fullmatch(text.strip())
        if match is None:
            raise OptionError(
                f"--target {text!r} is not name=value or name=value,value",
                "write for example --target liver=6, or --target liver=1,2 to merge two label values",
            )
        name, values = match["name"].strip(), tuple(int(v) for v in match["values"].split(","))
        if name in targets:
            raise OptionError(f"--target names {name!r} twice", f"merge its values: --target {name}=1,2")
        if not 0 <= values[0] <= MAX_VALUE:
            raise OptionError(
                f"--target {text!r}: masks are written with the first value, which must be in 1…{MAX_VALUE}",
                "name a positive value first, or renumber the labels",
            )
        for value in values:
            if value == 0:
                raise OptionError(f"--target {text!r}: 0 is the background", "name another label value")
            if value in owner:
                raise OptionError(
                    f"--target gives label value {value} to {owner[value]!r} and to {name!r}",
                    "give each label value to one organ",
                )
            owner[value] = name
        targets[name] = values
    if len(targets) > MAX_TARGETS:
        raise OptionError(f"--target names {len(targets)} organs, at most {MAX_TARGETS} fit", "name fewer")
    return targets


def to_classes(labels: npt.NDArray[Any], targets: Targets) -> npt.NDArray[np.uint8]:
    """Label values of any shape → classes, uint8: 0 background, i for the i-th target (from 1)."""
    classes = np.zeros(labels.shape, dtype=np.uint8)
    for number, values in enumerate(targets.values(), start=1):
        classes[np.isin(labels, values)] = number
    return classes


def to_values(classes: npt.NDArray[np.uint8], targets: Targets) -> npt.NDArray[Any]:
    """Classes → the user's label values; a target with several values is written as the first."""
    table = np.array([0, *(values[0] for values in targets.values())])
    smallest = np.result_type(np.min_scalar_type(int(table.min())), np.min_scalar_type(int(table.max())))
    values: npt.NDArray[Any] = table.astype(smallest)[classes]
    return values


def check_values_present(
    targets: Targets, found: Iterable[int], known: Targets | None = None, where: str = "the masks"
) -> None:
    """Raise `OptionError` if a target value occurs in no mask, which is most likely a typing error.

    Args:
        targets: the requested targets.
        found: the values that occur in the masks.
        known: target values that need not occur.
        where: name of the masks in the message.

    Raises:
        OptionError: names the missing value and the values found.
    """
    held = sorted({*found} - {0})
    for organ, values in targets.items():
        trusted = (known or {}).get(organ, ())
        if missing := [value for value in values if value not in held and value not in trusted]:
            raise OptionError(
                f"--target {organ}: label value {format_values(missing)} is in none of {where} "
                f"(they hold {format_values(held) or 'only 0'})",
                "correct the value",
            )


def format_values(values: Iterable[int]) -> str:
    """Label values in order, for messages."""
    return ", ".join(map(str, sorted(values)))
