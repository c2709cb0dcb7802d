"""Plug-ins: backbones, pre-training methods, metrics and promptable models from outside.

A plug-in is a module with one or more of four tables, each a dict of name → entry as in frugalseg's own:

    BACKBONES           `models.backbone.Backbone`
    METHODS             `pretraining.methods.Method`
    METRICS             `evaluation.metric_table.Metric`
    PROMPTABLE_MODELS   `promptable.load.PromptableSource`

It is found by an entry point of its package in the group `frugalseg.plugins`, or named by --plugin or `load_plugin`.
Modules are imported when one of the tables is first read; this module imports none of them.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from frugalseg.errors import OptionError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "frugalseg.plugins"
VARIABLE = "FRUGALSEG_PLUGINS"
"""Environment variable with the modules of --plugin, separated by commas: the processes of a command inherit it."""
TABLES = {
    "BACKBONES": "backbone",
    "METHODS": "pre-training method",
    "METRICS": "metric",
    "PROMPTABLE_MODELS": "promptable model",
}
"""Table of a plug-in → what its entries are."""
OWN = "frugalseg"

Entry = TypeVar("Entry")


@dataclass(frozen=True)
class PluginOrigin:
    """Where a plug-in is from, as model.json records it.

    Attributes:
        module: its module.
        package: the installed package; empty for a module that --plugin names.
        version: of the package; empty where there is none.
    """

    module: str
    package: str = ""
    version: str = ""

    def __str__(self) -> str:
        return f"{self.module} ({self.package} {self.version})" if self.package else self.module


@dataclass(frozen=True)
class Plugin:
    """A plug-in that could be imported."""

    origin: PluginOrigin
    module: ModuleType


class _State:
    """The plug-ins of this process.

    Attributes:
        plugins: those that could be imported, the installed ones first; None before they are looked for.
        failures: the others → why.
    """

    plugins: list[Plugin] | None = None
    failures: dict[PluginOrigin, str] = {}  # noqa: RUF012 - replaced, never changed
    loading = False


def load_plugin(module: str | ModuleType) -> None:
    """Import a module of plug-ins, for this process and those it starts.

    Args:
        module: its name, or the module itself.

    Raises:
        OptionError: it cannot be imported, has none of the four tables, an entry of another class, or a name that
            frugalseg or another plug-in has already.
    """
    name = module.__name__ if isinstance(module, ModuleType) else module
    plugin = Plugin(PluginOrigin(name), module if isinstance(module, ModuleType) else _import(name))
    others = [other for other in find_plugins() if other.origin.module != name]
    if not any(isinstance(getattr(plugin.module, table, None), Mapping) for table in TABLES):
        raise OptionError(
            f"--plugin {name}: the module has none of the tables {', '.join(TABLES)}", "see docs/how-to/plugins.md"
        )
    _check_names(plugin, others)
    if len(others) == len(find_plugins()):
        _State.plugins = [*others, plugin]
    named = list(filter(None, os.environ.get(VARIABLE, "").split(",")))
    os.environ[VARIABLE] = ",".join(dict.fromkeys([*named, name]))


def _import(name: str) -> ModuleType:
    folder = str(Path.cwd())
    if folder not in sys.path and "" not in sys.path:
        sys.path.append(folder)  # the last: a file there hides nothing
    try:
        return import_module(name)
    except Exception as error:
        cure = "give the name of a module that Python can import, for example my_package.my_module"
        raise OptionError(f"--plugin {name}: it cannot be imported ({_describe(error)})", cure) from error


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def find_plugins() -> list[Plugin]:
    """The plug-ins of installed packages, then those that --plugin names. One that cannot be imported is left out.

    Warns:
        UserWarning: it cannot be imported; told once.
    """
    if _State.plugins is not None or _State.loading:
        return _State.plugins or []
    from importlib.metadata import entry_points  # only here: the help of commands needs no plug-in

    _State.loading = True  # a plug-in may read the tables that it adds to
    try:
        found = [plugin for plugin in map(_load_entry_point, entry_points(group=GROUP)) if plugin]
        known = {plugin.origin.module for plugin in found}
        named = [name for name in os.environ.get(VARIABLE, "").split(",") if name and name not in known]
        found += [Plugin(PluginOrigin(name), _import(name)) for name in named]
    finally:
        _State.loading = False
    _State.plugins = found
    return found


def _load_entry_point(point: EntryPoint) -> Plugin | None:
    distribution = point.dist
    package, version = (distribution.name, distribution.version) if distribution else ("", "")
    origin = PluginOrigin(point.value, package, version)
    try:
        module = point.load()
    except (Exception, SystemExit) as error:
        _State.failures = {**_State.failures, origin: _describe(error)}
        warnings.warn(
            f"the plug-in {origin} cannot be imported ({_describe(error)}); everything else works. Repair or uninstall "
            f"{package or 'it'}",
            stacklevel=2,
        )
        return None
    return Plugin(origin, module)


def forget_plugins() -> None:
    """Look for plug-ins again when a table is next read; for tests."""
    _State.plugins, _State.failures = None, {}


def _read_table(plugin: Plugin, table: str) -> Mapping[str, Any]:
    found = getattr(plugin.module, table, None)
    return found if isinstance(found, Mapping) else {}


_registries: dict[str, Registry[Any]] = {}
"""Table → the registry of this process, where it is loaded."""


def _check_names(plugin: Plugin, others: list[Plugin]) -> None:
    """Raise `OptionError` where an entry of a plug-in has the name of another, or is of the wrong class."""
    for table in TABLES:
        own = names_of_frugalseg(table)
        for name, entry in _read_table(plugin, table).items():
            owner = OWN if name in own else next((str(o.origin) for o in others if name in _read_table(o, table)), None)
            if owner is not None:
                raise _clash_error(plugin, table, name, owner)
            if table in _registries:
                _registries[table].check(plugin, name, entry)


def _clash_error(plugin: Plugin, table: str, name: str, owner: str) -> OptionError:
    return OptionError(
        f"the plug-in {plugin.origin} has a {TABLES[table]} {name!r}, and so has {owner}",
        "rename the one of the plug-in, or uninstall one of the two",
    )


def names_of_frugalseg(table: str) -> frozenset[str]:
    """The names that frugalseg itself has in a table, if that table is loaded."""
    return _registries[table].own_names if table in _registries else frozenset()


class Registry(MutableMapping[str, Entry], Generic[Entry]):
    """A table of frugalseg's own entries by name, to which plug-ins add theirs. Assigning changes the own entries.

    Args:
        table: its name in plug-ins, see `TABLES`.
        kind: class of the entries.
        own: name → entry of frugalseg.
        reserved: further names that plug-ins cannot have.
    """

    def __init__(
        self, table: str, kind: type[Entry], own: Mapping[str, Entry], reserved: frozenset[str] = frozenset()
    ) -> None:
        self.table, self.kind = table, kind
        self._own = dict(own)
        self._reserved = reserved
        self._merged: tuple[list[Plugin], dict[str, tuple[Entry, PluginOrigin]]] = ([], {})
        _registries[table] = self

    @property
    def own_names(self) -> frozenset[str]:
        """The names that plug-ins cannot have."""
        return self._reserved | self._own.keys()

    def __getitem__(self, name: str) -> Entry:
        return self._own[name] if name in self._own else self._added()[name][0]

    def __setitem__(self, name: str, entry: Entry) -> None:
        self._own[name] = entry

    def __delitem__(self, name: str) -> None:
        del self._own[name]

    def __iter__(self) -> Iterator[str]:
        return iter([*self._own, *self._added()])

    def __len__(self) -> int:
        return len(self._own) + len(self._added())

    def origin(self, name: str) -> PluginOrigin | None:
        """The plug-in that an entry is from; None for frugalseg's own."""
        return None if name in self._own else self._added()[name][1]

    def check(self, plugin: Plugin, name: Any, entry: Any) -> None:
        """Raise `OptionError` for an entry of another class."""
        if not (isinstance(name, str) and isinstance(entry, self.kind)):
            raise OptionError(
                f"the plug-in {plugin.origin}: {self.table}[{name!r}] is a {type(entry).__name__}, expected a "
                f"{self.kind.__module__}.{self.kind.__qualname__} by its name",
                "see docs/how-to/plugins.md",
            )

    def _added(self) -> dict[str, tuple[Entry, PluginOrigin]]:
        """The entries of plug-ins; of an installed one that does not fit, a warning tells why it is left out."""
        plugins = find_plugins()
        if self._merged[0] is plugins:
            return self._merged[1]
        added: dict[str, tuple[Entry, PluginOrigin]] = {}
        for plugin in plugins:
            for name, entry in _read_table(plugin, self.table).items():
                owner = OWN if name in self.own_names else str(added[name][1]) if name in added else None
                try:
                    if owner is not None:
                        raise _clash_error(plugin, self.table, name, owner)
                    self.check(plugin, name, entry)
                except OptionError as error:
                    if not plugin.origin.package:
                        raise
                    warnings.warn(f"{error.problem}; it is left out", stacklevel=2)
                    continue
                added[name] = (entry, plugin.origin)
        self._merged = (plugins, added)
        return added


def find_names(table: str) -> list[str]:
    """The names that plug-ins add to a table, whether or not frugalseg's own is loaded."""
    return [name for plugin in find_plugins() for name in _read_table(plugin, table)]


def describe_failures() -> str:
    """The plug-ins that cannot be imported, as the end of a sentence about a name that is not found; often empty."""
    find_plugins()
    return "".join(f"; the plug-in {origin} cannot be imported ({why})" for origin, why in _State.failures.items())
