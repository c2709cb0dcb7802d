"""The folder of masks: what it says of scans that failed, and of a run that differs from the one begun."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from frugalseg.engine.files import write_json
from frugalseg.errors import RunError, ScanError
from frugalseg.imaging.volume import Volume
from frugalseg.options import Resume
from frugalseg.segment.mask_folder import MaskFolder, Words
from frugalseg.segment.note import NOTE

WORDS = Words("prediction", "segmenting", "segmented", "predict")
SAME = ("model", "promptable", "settings")


@dataclass
class Options:
    out: Path
    overwrite: bool = False
    resume: Resume = "no"


def note(**settings):
    return {"model": "run", "promptable": {"name": "A", "size": 256}, "settings": {"margin": 3.0, **settings}}


def make(case, path):
    if case.startswith("broken"):
        raise ScanError(f"{case} is damaged", "copy it again")
    return Volume(np.zeros((4, 4, 2), np.uint8), np.eye(4)), {}


def folder(out, *cases):
    images = {case: out.parent / "images" / f"{case}.nii.gz" for case in cases}
    return MaskFolder.claim(Options(out), images, note(), SAME, WORDS)


def test_the_others_are_named_only_where_there_are_some(tmp_path):
    with pytest.raises(ScanError, match=r"1 of 2 scans not segmented, the others are in .*some"):
        folder(tmp_path / "some", "a", "broken").fill(make, "CPU")
    assert (tmp_path / "some" / "a.nii.gz").is_file()
    with pytest.raises(ScanError) as caught:
        folder(tmp_path / "none", "broken_1", "broken_2").fill(make, "CPU")
    assert caught.value.problem.startswith("2 of 2 scans not segmented:\n")


@pytest.mark.parametrize(
    ("before", "said"),
    [
        (note(margin=9.0), "(margin: 9.0 then, 3.0 now)"),
        (note(flips=True), "(flips: True then, None now)"),
        ({**note(), "model": "other"}, "(model: other then, run now)"),
        ({**note(), "promptable": {"name": "B", "size": 256}}, "(promptable.name: B then, A now)"),
        ({"model": "run"}, "(promptable: None then, {'name': 'A', 'size': 256} now; settings: None then, "),
        (
            {"model": "x", "promptable": {"name": "B", "size": 9}, "settings": {}},
            "promptable.size: 9 then, 256 now; and 1 more)",
        ),
    ],
)
def test_what_differs_from_the_run_begun_is_named(tmp_path, before, said):
    write_json(tmp_path / NOTE, before)
    with pytest.raises(RunError) as caught:
        MaskFolder.claim(Options(tmp_path, resume="yes"), {}, note(), SAME, WORDS)
    assert f"{tmp_path} holds a prediction with other options" in caught.value.problem
    assert said in caught.value.problem


def test_the_same_options_go_on(tmp_path):
    write_json(tmp_path / NOTE, {**note(), "masks": {"a": "a.nii.gz"}})
    again = MaskFolder.claim(Options(tmp_path, resume="yes"), {"a": Path("a.nii.gz")}, note(), SAME, WORDS)
    assert again.done == {"a": tmp_path / "a.nii.gz"}
