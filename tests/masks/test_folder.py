"""The folder of masks: messages about failed scans, and about a run with other options than the interrupted one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from frugalseg.engine.files import read_json
from frugalseg.engine.lock import LOCK
from frugalseg.errors import RunError, ScanError
from frugalseg.imaging.intensity import IntensityScale
from frugalseg.imaging.volume import Volume
from frugalseg.masks.folder import MaskFolder, Words
from frugalseg.options import OutputType, Resume
from frugalseg.records.predictions import PREDICTIONS_FILE, CaseRecord, PredictionRecord, PromptableUse
from tests.masks.function_work import FunctionMaskWork
from tests.processes import lock_held, try_lock

WORDS = Words("prediction", "segmenting", "segmented", "predict")
SAME = ("model", "promptable", "settings")


@dataclass
class Options:
    out: Path
    overwrite: bool = False
    resume: Resume = "no"
    output_type: OutputType = "scan"
    segment_codes: Path | None = None


SHOWN = IntensityScale("ct", 0, 100)
A = PromptableUse("a", "A", "a", {"size": 256}, SHOWN)
B = replace(A, name="B")
NONE = PredictionRecord(roles=None)


def record(**settings):
    return PredictionRecord(model="run", promptable=A, settings={"margin": 3.0, **settings}, roles=None)


def make(case, path):
    if case.startswith("broken"):
        raise ScanError(f"{case} is damaged", "copy it again")
    return Volume(np.zeros((4, 4, 2), np.uint8), np.eye(4)), CaseRecord()


def folder(out, *cases):
    return MaskFolder.claim(Options(out), scans(out, *cases), record(), SAME, WORDS)


def again(out, *cases):
    return MaskFolder.claim(Options(out, resume="yes"), scans(out, *cases), record(), SAME, WORDS)


def scans(out, *cases):
    images = {case: out.parent / "images" / f"{case}.nii.gz" for case in cases}
    for case, path in images.items():
        path.parent.mkdir(exist_ok=True)
        if not path.exists():
            path.write_text(case)
    return images


def test_the_others_are_named_only_where_there_are_some(tmp_path):
    with pytest.raises(ScanError, match=r"1 of 2 scans not segmented, the others are in .*some"):
        folder(tmp_path / "some", "a", "broken").fill(FunctionMaskWork(make), "CPU")
    assert (tmp_path / "some" / "a.nii.gz").is_file()
    with pytest.raises(ScanError) as caught:
        folder(tmp_path / "none", "broken_1", "broken_2").fill(FunctionMaskWork(make), "CPU")
    assert caught.value.problem.startswith("2 of 2 scans not segmented:\n")


@pytest.mark.parametrize(
    ("before", "said"),
    [
        (record(margin=9.0), "(margin: 9.0 then, 3.0 now)"),
        (record(flips=True), "(flips: True then, None now)"),
        (replace(record(), model="other"), "(model: other then, run now)"),
        (replace(record(), promptable=B), "(promptable.name: B then, A now)"),
        (replace(NONE, model="run"), "(promptable: None then, {'model': 'a', 'name': 'A', "),
        (
            replace(NONE, model="x", promptable=replace(B, recipe={"size": 9})),
            "promptable.recipe.size: 9 then, 256 now; and 1 more)",
        ),
    ],
)
def test_what_differs_from_the_run_begun_is_named(tmp_path, before, said):
    before.write(tmp_path / PREDICTIONS_FILE)
    with pytest.raises(RunError) as caught:
        MaskFolder.claim(Options(tmp_path, resume="yes"), {}, record(), SAME, WORDS)
    assert f"{tmp_path} holds a prediction with other options" in caught.value.problem
    assert said in caught.value.problem


def test_the_same_options_go_on(tmp_path):
    folder(tmp_path / "out", "a").fill(FunctionMaskWork(make), "CPU")
    assert again(tmp_path / "out", "a").done == {"a": tmp_path / "out" / "a.nii.gz"}


def test_only_what_is_there_of_scans_that_are_the_same_is_done(tmp_path, capsys):
    out = tmp_path / "out"
    folder(out, "a", "b", "c").fill(FunctionMaskWork(make), "CPU")
    (out / "a.nii.gz").unlink()
    (tmp_path / "images" / "b.nii.gz").write_text("another patient's")
    going_on = again(out, "a", "b", "c")
    assert list(going_on.done) == ["c"]
    said = capsys.readouterr().err
    assert "a: its mask is missing and is made again" in said
    assert "b: the scan has changed; its mask is made again" in said
    made = []
    going_on.fill(FunctionMaskWork(lambda case, path: made.append(case) or make(case, path)), "CPU")
    assert made == ["a", "b"]
    assert list(again(out, "a", "b", "c").done) == ["c", "a", "b"]


@dataclass(frozen=True)
class WithPicture(FunctionMaskWork):
    """Work that is asked for a picture beside each mask."""

    def wanted_files(self, case):
        return [f"pictures/{case}.png"]


def test_a_finished_mask_without_a_wanted_file_is_made_again(tmp_path, capsys):
    folder(tmp_path, "a", "b").fill(FunctionMaskWork(make), "cpu")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").touch()
    made = []

    def remember(case, path):
        made.append(case)
        return make(case, path)

    again(tmp_path, "a", "b").fill(WithPicture(remember), "cpu")
    assert made == ["b"]
    assert "b: pictures/b.png is missing; the mask is made again" in capsys.readouterr().err


def test_after_a_broken_scan_the_same_command_with_resume_does_it_alone(tmp_path):
    with pytest.raises(ScanError) as caught:
        folder(tmp_path / "out", "a", "broken", "c").fill(FunctionMaskWork(make), "CPU")
    assert caught.value.cure == (
        "repair or remove them, then rerun the same predict command with --resume: it makes the missing masks"
    )
    made = []

    def mended(case, path):
        made.append(case)
        return make("mended", path)

    again(tmp_path / "out", "a", "broken", "c").fill(FunctionMaskWork(mended), "CPU")
    assert made == ["broken"]
    assert read_json(tmp_path / "out" / PREDICTIONS_FILE)["failed"] == {}


def test_a_scan_that_does_not_fit_into_the_memory_stops_no_other(tmp_path):
    def large(case, path):
        if case == "b":
            torch.empty(10**15)
        return make(case, path)

    with pytest.raises(ScanError, match="b: not enough memory for it"):
        folder(tmp_path / "out", "a", "b", "c").fill(FunctionMaskWork(large), "CPU")
    assert (tmp_path / "out" / "c.nii.gz").is_file()


def test_a_second_process_is_kept_out_until_the_masks_are_made(tmp_path):
    out = tmp_path / "out"

    def looking(case, path):
        assert try_lock(out) == "another process works"
        return make(case, path)

    folder(out, "a").fill(FunctionMaskWork(looking), "CPU")
    assert try_lock(out) == "free"
    with pytest.raises(ScanError):
        folder(tmp_path / "failed", "broken").fill(FunctionMaskWork(make), "CPU")
    assert try_lock(tmp_path / "failed") == "free"
    with lock_held(out), pytest.raises(RunError, match=r"another process works in .*out"):
        again(out, "a")


def test_the_lock_of_a_killed_command_is_no_use_of_the_folder(tmp_path):
    (tmp_path / LOCK).touch()
    assert folder(tmp_path, "a").done == {}


@pytest.mark.parametrize("out", ["file", "file/within"])
def test_a_file_is_no_folder(tmp_path, out):
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"--out .*file is a file") as caught:
        folder(tmp_path / out)
    assert caught.value.cure == "give a folder"
