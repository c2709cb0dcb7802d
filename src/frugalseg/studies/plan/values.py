"""Reading the values of a plan: checked by the option dataclass of the command, with errors that name the line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from frugalseg.engine.device import check_device_name
from frugalseg.errors import FrugalsegError, OptionError, RunError
from frugalseg.options import PretrainOptions
from frugalseg.options.renamed import current_name, current_value
from frugalseg.pretraining.methods import METHOD_OPTIONS, resolve_method
from frugalseg.studies.plan.options import PRETRAIN, CommandOptions, Values, make_options
from frugalseg.studies.plan.yaml_source import YamlValue, flags_to_keys

WRITTEN_ELSEWHERE = {
    "seed": "list the seeds under seeds:",
    "budget": "list the budgets under budgets:",
    "label_draw": "list the draws under draws:",
    "backbone": "list the backbones under backbones:",
    "split": "give it to the data set",
    "encoder": "write pretrain: beside finetune:",
    "transductive": "write it beside pretrain:",
    "series": "give it to the data set",
}
"""Option that a plan may not hold → what to write instead."""

Name = TypeVar("Name", str, int)


def read_entries(entry: YamlValue) -> dict[str, YamlValue]:
    """A mapping that must not be empty."""
    entries = entry.mapping()
    if not entries:
        raise entry.error("is empty", "name at least one")
    return entries


def read_choice(entry: YamlValue, names: Iterable[str], what: str) -> str:
    """A name that must be one of `names`; `what` is the noun for them in the error."""
    name, names = str(entry.as_type(str)), list(names)
    if name not in names:
        raise entry.error(f"there is no {what} {name!r}", f"choose one of: {', '.join(names)}")
    return name


def require_distinct(values: list[tuple[YamlValue, Name]]) -> tuple[Name, ...]:
    """The values, which must differ from each other."""
    seen: list[Name] = []
    for entry, value in values:
        if value in seen:
            raise entry.error(f"{value} is listed twice", "list each value once")
        seen.append(value)
    return tuple(seen)


def parse_value(entry: YamlValue, parse: Callable[[Any], Any], value: Any) -> Any:
    """The value parsed by `parse`, whose `OptionError` or `RunError` gets the entry's line."""
    try:
        return parse(value)
    except (OptionError, RunError) as error:
        raise entry.error(re.sub(r"^--\w+ ", "", error.problem), error.cure.replace("--target ", "")) from None


def require_existing(entry: YamlValue, value: Any) -> Any:
    """The value; a path must exist."""
    if isinstance(value, Path) and not value.exists():
        raise entry.error(f"{value} does not exist", "correct the path")
    return value


def read_values(command: CommandOptions, entry: YamlValue | None, shared: Values, *more: str) -> Values:
    """The options of a command in a plan, added to the `shared` ones.

    Args:
        command: the command.
        entry: the mapping, or None.
        shared: options that all methods share.
        more: keys that the caller reads itself.
    """
    given = {} if entry is None else {key: e for key, e in entry.mapping().items() if key not in more}
    hints, known = get_type_hints(command.kind), command.in_plans
    values: dict[str, object] = {}
    for key, value in given.items():
        present = current_name(key, hints)
        if present in command.set_by_study:
            instead = f"; {WRITTEN_ELSEWHERE[present]}" if present in WRITTEN_ELSEWHERE else ""
            raise value.error("is set by the study", f"remove it{instead}")
        if present != key:
            raise value.error("was renamed", f"write {present}")
        if key not in known:
            raise value.error("is unknown here", f"known are: {', '.join([*more, *known])}")
        _check_value(key, value)
        values[key] = require_existing(value, value.as_type(hints[key]))
        if key == "device":  # only its name: the job may run on another machine
            parse_value(value, check_device_name, values[key])
    length = {"steps", "epochs"}
    if length & values.keys():  # a method's own length replaces the shared one
        shared = {key: value for key, value in shared.items() if key not in length}
    merged = {**_drop_unread(command, shared, values), **values}
    if entry is not None:
        build_options(command.kind, given, entry, **merged)
    return merged


def _check_value(key: str, entry: YamlValue) -> None:
    given = entry.to_python() if entry.is_text else None
    if (present := current_value(key, given)) != given:
        raise entry.error(f"{given} was renamed", f"write {present}")


def _drop_unread(command: CommandOptions, shared: Values, values: Values) -> Values:
    """The shared options that this pre-training method reads."""
    if command is not PRETRAIN:
        return shared
    named = {key: v for key, v in {**shared, **values}.items() if key in {"method", "recipe"}}
    reads = resolve_method(make_options(PretrainOptions, named)).reads
    return {key: value for key, value in shared.items() if key in reads or key not in METHOD_OPTIONS}


def build_options(kind: type[Any], given: Mapping[str, YamlValue], entry: YamlValue, **values: Any) -> Any:
    """The command's options; errors in their values get the line."""
    try:
        return make_options(kind, values)
    except FrugalsegError as error:
        raise locate_error(given, entry, error) from None


def locate_error(given: Mapping[str, YamlValue], entry: YamlValue, error: FrugalsegError) -> OptionError:
    """The error with the line of the option that it names, or of the entry if it names none."""
    flags = {f"--{key.replace('_', '-')}": e for key, e in given.items()}
    flag = next((flag for flag in flags if flag in error.problem), None)
    problem = error.problem
    if flag is not None and problem.count("--") == 1:
        problem = problem.removeprefix(f"{flag} ")  # the entry's key says it
    return flags.get(flag or "", entry).error(flags_to_keys(problem), flags_to_keys(error.cure))
