"""A method of a study that averages the models of other methods."""

from __future__ import annotations

import math

import nibabel as nib
import numpy as np
import pytest

from frugalseg.errors import OptionError
from frugalseg.options import PredictOptions
from frugalseg.records.study import GridRecord
from frugalseg.segmentation.predict import segment_scans
from frugalseg.studies.jobs.state import GRID
from frugalseg.studies.plan.reader import read_plan
from frugalseg.studies.report.results import collect_results
from frugalseg.studies.run import study
from tests.promptable.tiny_networks import sam
from tests.studies.plans import changed, options, tiny_plan, write_plan

OTHERS = """\
  polycl again:
    pretrain: {method: polycl-s}
    finetune: {lr: 0.001}
"""
AVERAGES = """\
  refined: {of: both, refine: {model: SAM, min_iou: 0, device: cpu, precision: "32"}}
  both: {average: [scratch, polycl]}
"""


def with_methods(text):
    return changed((OTHERS, text))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One seed of a study with an average and its refined masks, run to its end."""
    root = tmp_path_factory.mktemp("average")
    sam().save_pretrained(root / "sam")
    steps = (f"finetune: {{steps: {n}, {more}batch_size" for n, more in ((2, ""), (12, "lr: 0.01, ")))
    text = changed((OTHERS, AVERAGES.replace("SAM", str(root / "sam"))), tuple(steps))
    study(options(write_plan(root, text), root / "out", only=["seed=0"]))
    return root


def trials_of(root):
    trials = collect_results(root / "out").trials
    return trials[trials["seed"] == 0].set_index("method")


def planned(root):
    return {t.method: t for t in GridRecord.read(root / "out" / GRID).trials if t.seed == 0}


def test_its_masks_are_those_of_predict_with_all_models(finished, tmp_path):
    trial = planned(finished)["both"]
    runs = [finished / "out" / model.folder for model in trial.models]
    segment_scans(
        PredictOptions(model=runs, images=finished / "away" / "images", out=tmp_path / "masks", device="cpu", threads=1)
    )
    masks = (finished / "out" / trial.tests["away"]).parent / "masks"
    for path in sorted(masks.glob("*.nii.gz")):
        mine, theirs = (np.asarray(nib.load(one).dataobj) for one in (path, tmp_path / "masks" / path.name))
        np.testing.assert_array_equal(mine, theirs)
        assert mine.any()


def test_masks_of_an_average_are_refined(finished):
    assert (trials_of(finished)["state"] == "done").all()
    refined = (finished / "out" / planned(finished)["refined"].tests["away"]).parent / "masks"
    assert len(list(refined.glob("*.nii.gz"))) == 2


@pytest.mark.parametrize("method", ["both", "refined"])
def test_its_cost_is_that_of_all_models_on_the_same_labels(finished, method):
    trials = trials_of(finished)
    for column in ("parameters", "finetune_minutes", "pretrain_minutes"):
        assert trials.loc[method, column] == pytest.approx(trials.loc[["scratch", "polycl"], column].sum())
    for column in ("masks", "mask_scans", "validation_masks", "device"):
        assert trials.loc[method, column] == trials.loc["scratch", column]
    assert trials.loc[method, "pretrain_scans"] == trials.loc["polycl", "pretrain_scans"] > 0
    assert math.isnan(trials.loc[method, "validation_dice"])


def test_the_models_are_those_of_the_methods(finished):
    methods = planned(finished)
    assert methods["both"].models == methods["scratch"].models + methods["polycl"].models == methods["refined"].models
    assert len(list((finished / "out" / "finetune").iterdir())) == 2


def test_the_resolved_plan_is_itself_a_plan(finished):
    again = read_plan(finished / "out" / "plan.yaml")
    assert {m.name: [s.name for s in m.sources] for m in again.methods if m.sources} == {
        "refined": ["both"],
        "both": ["scratch", "polycl"],
    }


def test_a_member_with_one_backbone_is_used_beside_any(tmp_path):
    plan = tiny_plan(
        tmp_path,
        ("backbones: [unet]", "backbones: [unet, resunet]"),
        ("scratch: {}", "scratch: {backbones: [resunet]}"),
        (OTHERS, "  both: {average: [polycl, scratch]}\n"),
    )
    both = plan.methods[-1]
    assert both.backbones == ("unet", "resunet")
    assert [[m.backbone_beside(b) for m in both.sources] for b in both.backbones] == [
        ["unet", "resunet"],
        ["resunet"] * 2,
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("  both: {average: [scratch]}\n", "needs two or more different methods"),
        ("  both: {average: [scratch, scratch]}\n", "needs two or more different methods"),
        ("  both: {average: [scratch, polcyl]}\n", "there is no method that trains models or averages them 'polcyl'"),
        ("  both: {average: [scratch, polycl], refine: {model: x}}\n", "found|give one of"),
        (
            "  middle: {finetune: {middle_fraction: 0.5}}\n  both: {average: [scratch, middle]}\n",
            "middle is trained on other labels than scratch",
        ),
        (
            "  mix: {sam_mix: {base: sam, steps: 2}}\n  both: {average: [scratch, mix]}\n",
            "mix is not a method of finetune",
        ),
    ],
)
def test_what_cannot_be_averaged_is_refused_with_its_line(tmp_path, text, problem):
    sam().save_pretrained(tmp_path / "sam")
    with pytest.raises(OptionError, match=problem) as raised:
        tiny_plan(tmp_path, (OTHERS, text))
    assert "line " in raised.value.problem
