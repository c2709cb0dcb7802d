"""`frugalseg predict` with a run of SAM-Mix: the same masks, unused options refused, refinement."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from frugalseg.cli import main
from frugalseg.commands.predict import predict
from frugalseg.errors import OptionError, RunError
from frugalseg.options import PredictOptions, SamMixPredictOptions
from frugalseg.records.predictions import PREDICTIONS_FILE
from frugalseg.refinement import refine as refining
from frugalseg.sam_mix.predict import sam_mix_predict
from frugalseg.sam_mix.predict_options import is_sam_mix, sam_mix_options
from tests.promptable.fake import Bright


def wish(trained, cohort, out, **more):
    settings = {"model": trained, "images": cohort / "images", "out": out, "case": ["scan_02"], "device": "cpu"}
    return PredictOptions(**(settings | {"precision": "32"} | more))


def mask(folder, case="scan_02"):
    return np.asarray(nib.load(folder / f"{case}.nii.gz").dataobj)


def note_of(folder):
    return json.loads((folder / PREDICTIONS_FILE).read_text())


def test_predict_is_sam_mix_predict_for_a_run_of_it(trained, cohort, tmp_path):
    flags = ["--images", cohort / "images", "--case", "scan_02", "--device", "cpu", "--target", "liver=2"]
    flags += ["--keep", "largest", "--precision", "32", "--model", trained]
    for command, out in ((["predict"], "one"), (["sam-mix", "predict"], "other")):
        assert main([*command, *map(str, flags), "--out", str(tmp_path / out)]) == 0
    assert np.array_equal(mask(tmp_path / "one"), mask(tmp_path / "other"))
    assert note_of(tmp_path / "one") == note_of(tmp_path / "other")
    assert "present" in note_of(tmp_path / "one")


def test_every_option_that_both_have_arrives():
    given = {
        "model": Path("run"),
        "images": Path("scans"),
        "series": ["portal"],
        "out": Path("out"),
        "keep": "core",
        "batch_size": 3,
        "device": "cuda:1",
        "threads": 3,
        "ray": "auto",
        "precision": "bf16",
        "case": ["a"],
        "target": ["liver=2"],
        "overwrite": True,
        "resume": "auto",
        "modality": "ct",
        "output_type": "nrrd",
        "segment_codes": Path("codes.csv"),
        "preview": True,
    }
    shared = PredictOptions.__dataclass_fields__.keys() & SamMixPredictOptions.__dataclass_fields__.keys()
    assert given.keys() == shared
    alone = {"base": None, "oracle": None, "scan_boxes": "model"}
    assert asdict(sam_mix_options(PredictOptions(**given))) == given | alone


def test_an_option_without_effect_is_refused_by_name(trained, cohort, tmp_path, monkeypatch):
    monkeypatch.setattr("frugalseg.promptable.load.find_weights", Path)
    for refine in (None, "litemedsam"):
        with pytest.raises(OptionError, match="--tta True: .* SAM-Mix.*\n.*leave --tta out"):
            predict(wish(trained, cohort, tmp_path / "out", tta=True, refine=refine))
    assert not (tmp_path / "out").exists()


def test_an_interrupted_prediction_resumes(trained, cohort, tmp_path):
    out = tmp_path / "out"
    predict(wish(trained, cohort, out))
    before = (out / "scan_02.nii.gz").stat().st_mtime_ns
    with pytest.raises(RunError, match="in use"):
        predict(wish(trained, cohort, out))
    assert list(predict(wish(trained, cohort, out, case=["scan_02", "scan_03"], resume="yes"))) == [
        "scan_02",
        "scan_03",
    ]
    assert (out / "scan_02.nii.gz").stat().st_mtime_ns == before


def test_refinement_works_on_top(trained, cohort, tmp_path, monkeypatch):
    shown = []

    def bright(name, *_):
        shown.append(Bright(signature=name, threshold=0.5))
        return shown[-1]

    monkeypatch.setattr(refining, "load_promptable", bright)
    monkeypatch.setattr("frugalseg.promptable.load.find_weights", Path)
    out = tmp_path / "out"
    written = predict(wish(trained, cohort, out, refine="litemedsam"))
    assert written == {"scan_02": out / "scan_02.nii.gz"}
    sam_mix_predict(sam_mix_options(wish(trained, cohort, tmp_path / "alone")))
    assert np.array_equal(mask(out / "coarse"), mask(tmp_path / "alone"))
    note, coarse = note_of(out), note_of(out / "coarse")
    assert note["method"] == "refine"
    assert note["promptable"]["shown"] == json.loads((trained / "model.json").read_text())["preprocessing"]["intensity"]
    for key in ("model", "weights_sha256", "targets", "roles"):
        assert note[key] == coarse[key]
    assert note["settings"]["before"] == coarse["settings"]
    assert (mask(out / "coarse") > 0).any()
    assert len(shown[-1].boxes) > 0


def test_the_error_for_a_moved_base_model_names_the_command_that_takes_it(trained, cohort, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints", "tensorboard"))
    spec = json.loads((run / "model.json").read_text())
    spec["base"]["given"] = str(tmp_path / "gone")
    (run / "model.json").write_text(json.dumps(spec))
    with pytest.raises(OptionError, match="base model .*gone.*\n.*`frugalseg sam-mix predict --base`"):
        predict(wish(run, cohort, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_other_runs_are_no_sam_mix(tmp_path):
    assert not is_sam_mix(tmp_path)
    (tmp_path / "model.json").write_text('{"kind": "segmenter"}')
    assert not is_sam_mix(tmp_path)
    (tmp_path / "config.yaml").touch()
    (tmp_path / "model.json").unlink()
    with pytest.raises(RunError, match="has not finished .*\n.*--resume"):
        predict(PredictOptions(model=tmp_path, images=tmp_path, out=tmp_path / "out"))
