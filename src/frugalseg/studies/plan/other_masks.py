"""Reading the methods of a plan whose masks another program made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from frugalseg.dataset.targets import parse_targets
from frugalseg.studies.plan.method_parts import Shared, own_backbones, own_budgets, own_note
from frugalseg.studies.plan.plan import MethodPlan, OtherMasks
from frugalseg.studies.plan.values import checked, existing
from frugalseg.studies.plan.yaml_source import Entry

KEYS = ("note", "masks", "annotation", "budgets", "target", "guided", "transductive", "backbones")
NEEDED = {
    "annotation": "state in words on which masks, and how many, that program was trained",
    "budgets": "name the budgets of the plan that correspond to this annotation",
}
"""Key that must be there → what to write."""


def read_masks(name: str, entry: Entry, shared: Shared) -> MethodPlan:
    """A method whose masks of every test set lie in folders.

    Raises:
        OptionError: naming the line: a key that is missing or unknown, a test set without a folder, a folder that is
            not there, an organ of a test set that `target` does not name.
    """
    given = entry.known(*KEYS)
    for key, cure in NEEDED.items():
        if key not in given or given[key].is_empty:
            raise entry.error(f"masks of another program, and no {key}:", cure)
    backbones = own_backbones(given, shared.backbones)
    if "backbones" in given and len(backbones) > 1:
        raise given["backbones"].error(
            "masks of another program are of none of them", "name one, in whose tables they are listed"
        )
    target = given["target"].as_type(list[str]) if "target" in given else None
    if target is not None:
        _check_organs(given["target"], target, shared)
    folders = _folders(given["masks"], [test.name for test in shared.tests])
    annotation = str(given["annotation"].as_type(str)).strip()
    return MethodPlan(
        name=name,
        pretrain=None,
        pretrain_data=shared.pretrain_data,
        training=None,
        transductive=_flag(given, "transductive"),
        backbones=backbones[:1],
        budgets=own_budgets(given, shared.budgets, trained=False),
        note=own_note(given, f"masks of another program; what it was given, as the plan states it: {annotation}"),
        entry=entry,
        other=OtherMasks(
            folders={test: existing(one, one.as_type(Path)) for test, one in folders.items()},
            entries=folders,
            target=None if target is None else tuple(target),
            annotation=annotation,
            guided=_flag(given, "guided"),
        ),
    )


def _folders(entry: Entry, tests: list[str]) -> Mapping[str, Entry]:
    """Test set → where its folder is written; a single test set needs no name."""
    if len(tests) == 1 and entry.is_text:
        return {tests[0]: entry}
    folders = entry.known(*tests)
    if missing := [test for test in tests if test not in folders]:
        raise entry.error(f"no folder for the test set {missing[0]}", "name one for each: TEST SET: FOLDER")
    return folders


def _check_organs(entry: Entry, target: list[str], shared: Shared) -> None:
    named = checked(entry, parse_targets, target)
    for test in shared.tests:
        if missing := [organ for organ in shared.data[test.data].organs if organ not in named]:
            raise entry.error(f"does not name {missing[0]}, which {test.name} is tested on", f"add {missing[0]}=VALUE")


def _flag(given: Mapping[str, Entry], key: str) -> bool:
    return bool(given[key].as_type(bool)) if key in given else False
