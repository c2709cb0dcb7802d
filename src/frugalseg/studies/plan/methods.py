"""Reading the methods of a plan."""

from __future__ import annotations

from frugalseg.studies.mask_makers.table import MASK_MAKERS
from frugalseg.studies.plan.method import MaskMaker, MethodPlan
from frugalseg.studies.plan.method_parts import SharedSettings
from frugalseg.studies.plan.values import read_entries
from frugalseg.studies.plan.yaml_source import YamlValue
from frugalseg.studies.trainings.table import DEFAULT, TRAININGS


def read_methods(entry: YamlValue, shared: SharedSettings) -> tuple[MethodPlan, ...]:
    """The methods in the order of the file; a method may process the masks of any other, earlier or later."""
    entries = read_entries(entry)
    makers = {name: _find_maker(one) for name, one in entries.items() if {"of", *MASK_MAKERS} & one.mapping().keys()}
    known = {name: _read_trained_method(name, one, shared) for name, one in entries.items() if name not in makers}
    for is_source in (True, False):  # methods that others may process are read first
        known |= {
            name: maker.read(name, entries[name], shared, known)
            for name, maker in makers.items()
            if maker.IS_SOURCE is is_source
        }
    return tuple(known[name] for name in entries)


def _find_maker(entry: YamlValue) -> type[MaskMaker]:
    if "of" in entry.mapping():
        entry.check_keys("note", "of", *MASK_MAKERS, "budgets")
    keys = [key for key in MASK_MAKERS if key in entry.mapping()]
    if len(keys) != 1:
        found = " and ".join(keys) or "none"
        stated = (
            f"of: needs exactly one of {', '.join(MASK_MAKERS)}, found {found}" if "of" in entry.mapping() else found
        )
        raise entry.error(stated, f"give one of: {', '.join(MASK_MAKERS)}")
    return MASK_MAKERS[keys[0]]


def _read_trained_method(name: str, entry: YamlValue, shared: SharedSettings) -> MethodPlan:
    """A method that trains models."""
    given = entry.check_keys("note", "pretrain", *TRAININGS, "transductive", "backbones", "budgets")
    keys = [key for key in TRAININGS if key in given] or [DEFAULT]
    return TRAININGS[keys[-1]].read(name, entry, shared)
