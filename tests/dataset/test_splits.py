from __future__ import annotations

import json

import pytest

from frugalseg.dataset.splits import check_leakage, divide_into_folds, draw_split, parse_patient, read_split
from frugalseg.errors import OptionError, SplitError
from frugalseg.records.split import Split

PATIENTS = {f"p{i:02d}": True for i in range(16)}


def test_parts_are_disjoint_complete_and_of_the_asked_size():
    split = draw_split(PATIENTS, [], (0.15, 0.25), seed=0)
    assert sorted(split.train + split.validation + split.test) == sorted(PATIENTS)
    assert (len(split.train), len(split.validation), len(split.test)) == (10, 2, 4)


def test_seed_decides():
    draws = {draw_split(PATIENTS, [], (0.15, 0.25), seed=s).test for s in range(10)}
    assert len(draws) > 5
    assert draw_split(PATIENTS, [], (0.15, 0.25), 3) == draw_split(
        dict(reversed(PATIENTS.items())), [], (0.15, 0.25), 3
    )


def test_unlabelled_patients_are_for_training_only():
    labelled = {f"p{i:02d}": i < 4 for i in range(30)}
    for seed in range(20):
        split = draw_split(labelled, [], (0.25, 0.25), seed)
        assert len(split.validation) == len(split.test) == 1
        assert all(labelled[p] for p in split.validation + split.test)


def test_copies_of_one_scan_stay_together():
    for seed in range(30):
        split = draw_split(PATIENTS, [{"p00", "p01"}, {"p01", "p02"}], (0.2, 0.3), seed)
        part_of = split.part_by_patient()
        assert part_of["p00"] == part_of["p01"] == part_of["p02"]


def test_patient_in_two_parts_is_refused():
    with pytest.raises(SplitError, match=r"b both in train and in test"):
        Split(("a", "b"), (), ("b",))


def test_no_training_patient_is_refused():
    with pytest.raises(SplitError, match="no patient for training"):
        Split((), ("a",), ("b",))


def write(tmp_path, content):
    path = tmp_path / "split.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_reads_a_file(tmp_path):
    path = write(tmp_path, {"train": ["p01", "p00"], "test": ["p02"]})
    assert read_split(path, PATIENTS) == Split(("p01", "p00"), (), ("p02",))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"train": ["p00", "nobody"]}, "nobody"),
        ({"train": ["p00"], "test": ["p00"]}, "both in train and in test"),
        ("{", "is damaged: it is cut off"),
        ("[1]", "Expected names with values"),
    ],
)
def test_refuses_a_wrong_file(tmp_path, content, said):
    with pytest.raises(SplitError, match=said):
        read_split(write(tmp_path, content), PATIENTS)


def test_missing_file(tmp_path):
    with pytest.raises(SplitError, match="--split .*none.json is missing"):
        read_split(tmp_path / "none.json", PATIENTS)


def test_one_scan_under_two_names_in_two_parts_is_leakage():
    split = Split(("a", "b"), ("c",), ("d",))
    check_leakage(split, [{"a", "b"}, {"d", "outside"}])
    with pytest.raises(SplitError, match="identical scan.*test and train"):
        check_leakage(split, [{"b", "d"}])


def test_the_patient_is_the_first_group_of_the_pattern():
    assert parse_patient("P1_before", "(.+)") == "P1_before"
    assert parse_patient("P1_before", r"(P\d+)_") == "P1"
    with pytest.raises(OptionError, match="finds no patient in the case id 'P1_before'"):
        parse_patient("P1_before", r"(Q\d+)_")
    with pytest.raises(OptionError, match="finds no patient"):
        parse_patient("P1_before", r"P\d+")
    with pytest.raises(OptionError, match="is not a valid regular expression"):
        parse_patient("P1_before", "(")


def test_folds_validate_each_labelled_patient_once_and_never_a_test_patient():
    split = draw_split(PATIENTS | {f"u{i}": False for i in range(3)}, [], (0.15, 0.25), seed=0)
    labelled = {p: p in PATIENTS for p in (*split.train, *split.validation, *split.test)}
    for folds in (2, 5, 12):
        parts = divide_into_folds(split, labelled, [{"p00", "u1"}], folds)
        assert sorted(p for part in parts for p in part.validation if p != "u1") == sorted(
            p for p in (*split.train, *split.validation) if labelled[p]
        )
        assert {len([p for p in part.validation if p != "u1"]) for part in parts} <= {12 // folds, -(-12 // folds)}
        for part in parts:
            assert part.test == split.test
            assert sorted((*part.train, *part.validation)) == sorted((*split.train, *split.validation))
            assert {"u0", "u2"} <= set(part.train)


def test_folds_do_not_divide_copies_of_one_scan():
    split = Split(tuple(PATIENTS)[:12], tuple(PATIENTS)[12:14], tuple(PATIENTS)[14:])
    for part in divide_into_folds(split, PATIENTS, [{"p00", "p01"}, {"p01", "p12"}], 4):
        assert len({"p00", "p01", "p12"} & set(part.validation)) in (0, 3)


def test_more_folds_than_patients_are_refused():
    split = Split(("a", "b", "c"), ("d",), ("e",))
    labelled = dict.fromkeys("abce", True) | {"d": False}
    with pytest.raises(SplitError, match="--folds 4: only 3 labelled patients outside the test set"):
        divide_into_folds(split, labelled, [], 4)
    with pytest.raises(SplitError, match="only 2 labelled patients"):
        divide_into_folds(split, labelled, [{"a", "b"}], 3)
