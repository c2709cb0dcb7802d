"""A command's options as a plan gives them: checked by the dataclass that the command takes, each with its line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from frugalseg.engine.device import check_name
from frugalseg.errors import FrugalsegError, OptionError
from frugalseg.options import PretrainOptions
from frugalseg.options.renamed import present_name, present_value
from frugalseg.pretraining.methods import METHOD_OPTIONS, resolve_method
from frugalseg.studies.plan.options import PRETRAIN, CommandOptions, Values, of_plan
from frugalseg.studies.plan.yaml_source import YamlValue, without_flags

INSTEAD = {
    "seed": "list the seeds under seeds:",
    "budget": "list the budgets under budgets:",
    "label_draw": "list the draws under draws:",
    "backbone": "list the backbones under backbones:",
    "split": "give it to the data set",
    "encoder": "write pretrain: beside finetune:",
    "transductive": "write it beside pretrain:",
}
"""Option that a plan may not hold → where its meaning belongs."""

Name = TypeVar("Name", str, int)


def some(entry: YamlValue) -> dict[str, YamlValue]:
    """A mapping that may not be empty."""
    entries = entry.mapping()
    if not entries:
        raise entry.error("is empty", "name at least one")
    return entries


def chosen(entry: YamlValue, names: Iterable[str], what: str) -> str:
    """One of `names`; `what` they are."""
    name, names = str(entry.as_type(str)), list(names)
    if name not in names:
        raise entry.error(f"there is no {what} {name!r}", f"choose one of: {', '.join(names)}")
    return name


def distinct(values: list[tuple[YamlValue, Name]]) -> tuple[Name, ...]:
    """The values, none of which may stand there twice."""
    seen: list[Name] = []
    for entry, value in values:
        if value in seen:
            raise entry.error(f"{value} is listed twice", "name each once")
        seen.append(value)
    return tuple(seen)


def checked(entry: YamlValue, parse: Callable[[Any], Any], value: Any) -> Any:
    """What `parse` makes of the value; its complaint names the entry's line."""
    try:
        return parse(value)
    except OptionError as error:
        raise entry.error(re.sub(r"^--\w+ ", "", error.problem), error.cure.replace("--target ", "")) from None


def existing(entry: YamlValue, value: Any) -> Any:
    """The value; a path must be there."""
    if isinstance(value, Path) and not value.exists():
        raise entry.error(f"{value} does not exist", "correct the path")
    return value


def read_values(command: CommandOptions, entry: YamlValue | None, shared: Values, *more: str) -> Values:
    """A command's options as the plan gives them, on top of the `shared` ones.

    Args:
        command: whose options.
        entry: the mapping, or None.
        shared: what all methods share.
        more: keys that the caller reads itself.
    """
    given = {} if entry is None else {key: e for key, e in entry.mapping().items() if key not in more}
    hints, known = get_type_hints(command.kind), command.in_plans
    values: dict[str, object] = {}
    for key, value in given.items():
        present = present_name(key, hints)
        if present in command.set_by_study:
            instead = f"; {INSTEAD[present]}" if present in INSTEAD else ""
            raise value.error("is set by the study", f"take it out{instead}")
        if present != key:
            raise value.error("was renamed", f"write {present}")
        if key not in known:
            raise value.error("is unknown here", f"known are: {', '.join([*more, *known])}")
        _check_value(key, value)
        values[key] = existing(value, value.as_type(hints[key]))
        if key == "device":  # whether it is there is another question, and maybe another machine's
            checked(value, check_name, values[key])
    length = {"steps", "epochs"}
    if length & values.keys():  # a method's own length takes the place of the shared one
        shared = {key: value for key, value in shared.items() if key not in length}
    merged = {**_of_use(command, shared, values), **values}
    if entry is not None:
        build(command.kind, given, entry, **merged)
    return merged


def _check_value(key: str, entry: YamlValue) -> None:
    given = entry.plain() if entry.is_text else None
    if (present := present_value(key, given)) != given:
        raise entry.error(f"{given} was renamed", f"write {present}")


def _of_use(command: CommandOptions, shared: Values, values: Values) -> Values:
    """The shared options without those that this pre-training method does not read."""
    if command is not PRETRAIN:
        return shared
    named = {key: v for key, v in {**shared, **values}.items() if key in {"method", "recipe"}}
    reads = resolve_method(of_plan(PretrainOptions, named)).reads
    return {key: value for key, value in shared.items() if key in reads or key not in METHOD_OPTIONS}


def build(kind: type[Any], given: Mapping[str, YamlValue], entry: YamlValue, **values: Any) -> Any:
    """The command's options; errors in their values name their line."""
    try:
        return of_plan(kind, values)
    except FrugalsegError as error:
        raise where(given, entry, error) from None


def where(given: Mapping[str, YamlValue], entry: YamlValue, error: FrugalsegError) -> OptionError:
    """The error with the line of the option it names, or else of the entry."""
    flags = {f"--{key.replace('_', '-')}": e for key, e in given.items()}
    flag = next((flag for flag in flags if flag in error.problem), None)
    problem = error.problem
    if flag is not None and problem.count("--") == 1:
        problem = problem.removeprefix(f"{flag} ")  # the entry's key says it
    return flags.get(flag or "", entry).error(without_flags(problem), without_flags(error.cure))
