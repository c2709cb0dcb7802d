from __future__ import annotations

import json

import pytest

from frugalseg.errors import PairingError
from frugalseg.evaluation.roles import (
    ALL,
    MASKS_NOT_USED,
    UNSEEN,
    choose_headline,
    find_roles,
    group_cases,
    read_predictions,
)

ROLES = {"a": "train", "b": "validation", "c": "pretrain", "d": "test", "e": "new", "f": "unused"}


def note_in(folder, content):
    (folder / "predictions.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return read_predictions(folder)


def test_only_scans_the_model_never_saw_are_in_the_headline():
    groups = group_cases(ROLES)
    assert groups[UNSEEN] == ["d", "e"]
    assert groups[MASKS_NOT_USED] == ["c", "d", "e", "f"]
    assert groups["train"] == ["a"]
    assert choose_headline(groups) == UNSEEN


def test_without_unseen_scans_there_is_no_headline():
    assert choose_headline(group_cases({"a": "train", "b": "validation", "c": "pretrain"})) is None


def test_without_a_note_all_scans_are_one_group(tmp_path):
    assert read_predictions(tmp_path) is None
    roles = find_roles(["a", "b"], None)
    assert group_cases(roles) == {ALL: ["a", "b"]}
    assert choose_headline(group_cases(roles)) == ALL


def test_a_note_is_read_with_paths_relative_to_it(tmp_path):
    (tmp_path / "scan.nii").touch()
    note = note_in(tmp_path, {"model": "m", "roles": ROLES, "images": {"a": "scan.nii"}, "targets": {"liver": [1, 2]}})
    assert note.images == {"a": str(tmp_path / "scan.nii")}
    assert note.targets == {"liver": (1, 2)}
    assert find_roles(["a", "e"], note) == {"a": "train", "e": "new"}


def test_a_case_of_unknown_role_is_never_taken_for_unseen(tmp_path):
    note = note_in(tmp_path, {"roles": {"a": "test"}})
    with pytest.raises(PairingError, match="does not list b"):
        find_roles(["a", "b"], note)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"roles": 3}', '{"roles": {"a": "tset"}}'])
def test_a_damaged_note_is_an_error(tmp_path, content):
    with pytest.raises(PairingError, match=r"predictions\.json"):
        note_in(tmp_path, content)
