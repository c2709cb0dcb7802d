"""Masks that another program made, as a row of a study."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import yaml

from frugalseg.errors import OptionError
from frugalseg.options import StudyStatusOptions
from frugalseg.studies.jobs.other_masks import MasksToCheck, _check_values
from frugalseg.studies.plan.reader import read_plan
from frugalseg.studies.report.results import collect_results
from frugalseg.studies.run import study
from frugalseg.studies.status import study_status
from tests.studies.plans import changed, options, write_plan

ROW = """\
  nnU-Net:
    masks: {held out: theirs/here, away: theirs/away}
    annotation: all masks of the four training scans
    budgets: ["100%"]
    target: [liver=1]
"""
OTHERS = """\
  polycl: {pretrain: {method: polycl-s}}
  polycl again:
    pretrain: {method: polycl-s}
    finetune: {lr: 0.001}
"""


def text(*replacements, row=ROW):
    plan = changed((OTHERS, row), ('["1 scans"]', '["1 scans", "100%"]'))
    for old, new in replacements:
        assert old in plan, old
        plan = plan.replace(old, new)
    return plan


def their_mask(path, value=1):
    """What the other program made of it: its liver one voxel farther on, and an organ that nobody asked for."""
    image = nib.load(path)
    labels = np.asarray(image.dataobj)
    shifted = np.roll(labels == 6, 1, axis=0)
    return nib.Nifti1Image(np.where(shifted, value, np.where(labels == 1, 4, 0)).astype(np.uint8), image.affine)


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """The tiny scans, and masks of them all in label values of the program's own."""
    root = tmp_path_factory.mktemp("other")
    write_plan(root, text())
    for labels, name in ((root / "labels", "here"), (root / "away" / "labels", "away")):
        (root / "theirs" / name).mkdir(parents=True)
        for path in labels.glob("*.nii.gz"):
            nib.save(their_mask(path), root / "theirs" / name / path.name)
    return root


@pytest.fixture
def folder(scans, tmp_path):
    return shutil.copytree(scans, tmp_path / "study", ignore=shutil.ignore_patterns("out"))


@pytest.fixture(scope="module")
def finished(scans):
    study(options(scans / "plan.yaml", scans / "out", jobs=2))
    return scans / "out"


def test_the_method_is_listed_where_the_plan_says_and_scored_like_any_other(finished, scans):
    results = collect_results(finished)
    trials = results.trials.set_index(["method", "budget"]).sort_index()
    assert (trials["state"] == "done").all()
    assert trials.loc["nnU-Net"].index.tolist() == ["100%"]
    row = trials.loc[("nnU-Net", "100%")]
    assert (row["draws"], row["seeds"], row["external"], row["trained"]) == ("0", "0 1", True, False)
    assert row["annotation"] == "all masks of the four training scans"
    assert math.isnan(row["masks"]), "nothing but what the plan states is known of it"
    mine = results.cases[results.cases["method"] == "nnU-Net"]
    assert set(mine["test"]) == {"held out", "away"}
    for case in mine.to_dict("records"):
        labels = scans / ("labels" if case["test"] == "held out" else "away/labels") / f"{case['case']}.nii.gz"
        liver = np.asarray(nib.load(labels).dataobj) == 6
        assert case["dice"] == pytest.approx(2 * (liver & np.roll(liver, 1, 0)).sum() / (2 * liver.sum()))
        assert 0.5 < case["dice"] < 1


def test_it_is_paired_and_marked_and_its_stated_annotation_is_reported(finished):
    compared = pd.read_csv(next((finished / "tables").glob("comparison-away*dice.csv")))
    (row,) = compared[compared["runs"] > 0].to_dict("records")
    assert (row["method"], row["budget"], row["runs"], row["runs_planned"]) == ("nnU-Net", "100%", 2, 2)
    scores = collect_results(finished).cases.query("test == 'away' and budget == '100%'")
    means = scores.groupby("method")["dice"].mean()
    assert row["difference"] == pytest.approx(means["nnU-Net"] - means["scratch"])
    page = (finished / "report.html").read_text()
    assert "nnU-Net§: annotation as stated in the plan: all masks of the four training scans." in page
    assert "§ external: another program made these masks." in page
    assert "A method without training is one run" in page
    latex = next((finished / "tables").glob("in-domain*.tex")).read_text()
    assert r"nnU-Net$^{\S}$" in latex
    assert r"\textbf{" in latex, "a row that stands at one budget keeps no one from being ranked"
    assert "done of 5 runs" in study_status(StudyStatusOptions(folder=finished)).text


def test_a_second_run_repeats_nothing_and_other_masks_are_scored_again(finished, scans, tmp_path):
    shutil.copytree(scans, tmp_path / "copy")
    out = tmp_path / "copy" / "out"
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/*/*/*/summary.json")}
    study(options(tmp_path / "copy" / "plan.yaml", out))
    mask = tmp_path / "copy" / "theirs" / "away" / "scan_06.nii.gz"
    nib.save(nib.load(tmp_path / "copy" / "theirs" / "away" / "scan_07.nii.gz"), mask)
    study(options(tmp_path / "copy" / "plan.yaml", out))
    after = {path: path.stat().st_mtime_ns for path in out.glob("*/*/*/*/summary.json")}
    assert before.items() <= after.items()
    assert len({path.parts[-4] for path in after.keys() - before.keys()}) == 1
    was, now = (collect_results(o).cases.query("method == 'nnU-Net' and test == 'away'") for o in (scans / "out", out))
    assert was.set_index("case")["dice"]["scan_06"] != now.set_index("case")["dice"]["scan_06"]


def refused(folder, plan=None):
    with pytest.raises(OptionError) as raised:
        study(options(write_plan(folder, plan or text(), scans=False), folder / "out"))
    assert not (folder / "out" / "finetune").exists(), "something was trained"
    return str(raised.value)


def test_missing_masks_are_named_before_anything_is_trained(folder):
    (folder / "theirs" / "away" / "scan_07.nii.gz").unlink()
    said = refused(folder)
    assert "plan.yaml, line 20: methods.nnU-Net.masks.away" in said
    assert "holds no mask of 1 of the 2 test scans: scan_07" in said
    assert "a mask of zeros" in said


def test_masks_in_other_label_values_are_refused_not_scored_as_missed(folder):
    said = refused(folder, text(("    target: [liver=1]\n", "")))
    assert "hold the label value 1, 4 (" in said
    assert "none of the test set's target (liver=6)" in said
    assert "target: [ORGAN=VALUE]" in said
    said = refused(folder, text(("target: [liver=1]", "target: [liver=3]")))
    assert "holds liver (3); they hold 1, 4" in said


def test_an_organ_that_was_missed_everywhere_is_no_error():
    job = MasksToCheck(images=Path(), masks=Path("m"), series=(), case=(), target=(), stated=True, out=Path("m.json"))
    targets = {"liver": (1, 2), "spleen": (3,)}
    _check_values(targets, {"a": {0, 1}, "b": {0, 2}}, job)
    _check_values(targets, {"a": {0}}, replace(job, stated=False))
    with pytest.raises(OptionError, match=r"no mask in m holds spleen \(3\); they hold 1, 5"):
        _check_values(targets, {"a": {0, 1}, "b": {0, 5}}, job)


def test_masks_on_another_grid_and_damaged_ones_are_refused(folder):
    path = folder / "theirs" / "away" / "scan_07.nii.gz"
    mask = nib.load(path)
    nib.save(nib.Nifti1Image(np.asarray(mask.dataobj)[:-1], mask.affine), path)
    assert "scan_07: image and labels are on different grids" in refused(folder)
    path.write_bytes(b"not a mask")
    assert "1 of 2 masks cannot be used" in refused(folder)


def test_an_organ_that_was_found_nowhere_is_a_score_of_zero(folder):
    for path in (folder / "theirs").rglob("*.nii.gz"):
        mask = nib.load(path)
        nib.save(nib.Nifti1Image(np.zeros(mask.shape, np.uint8), mask.affine), path)
    study(options(write_plan(folder, text(), scans=False), folder / "out", only=["method=nnU-Net"]))
    cases = collect_results(folder / "out").cases
    assert set(cases["method"]) == {"nnU-Net"}
    assert (cases["dice"] == 0).all()
    assert set(cases["outcome"]) == {"missed"}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "    annotation: all masks of the four training scans\n",
            "",
            "nnU-Net: masks of another program without annotation:",
        ),
        ("annotation: all masks of the four training scans", "annotation:", "without annotation:"),
        ('    budgets: ["100%"]\n    target', "    target", "nnU-Net: masks of another program without budgets:"),
        ('budgets: ["100%"]\n    target', 'budgets: ["2 scans"]\n    target', "2 scans is not among its budgets"),
        (", away: theirs/away}", "}", "no folder for the test set away"),
        (", away: theirs/away}", ", other: theirs/away}", "masks.other: is unknown here"),
        ("away: theirs/away", "away: theirs/nowhere", "nowhere does not exist"),
        ("target: [liver=1]", "target: [spleen=1]", "does not name liver, an organ of the test set held out"),
        ("target: [liver=1]", "finetune: {}", "finetune: is unknown here"),
        ("target: [liver=1]", "uses_test_references: maybe", "not true or false"),
        ("target: [liver=1]", "guided: true", "write uses_test_references"),
        ("scratch: {}", 'scratch: {budgets: ["0 slices"]}', "trains from masks, but 0 slices is a budget of none"),
        ('["1 scans", "100%"]', '["0 slices", "1 scans", "100%"]', "no method is run at 0 slices"),
        ("scratch: {}", "scratch + SAM: {of: nnU-Net, refine: {}}\n  scratch: {}", "no method that trains models"),
    ],
)
def test_mistakes_in_plans_are_reported_with_their_line(scans, old, new, said):
    plan = text()
    if "scratch: {budgets" in new:
        plan = plan.replace('["1 scans", "100%"]', '["0 slices", "1 scans", "100%"]')
    assert old in plan
    path = scans / "slip.yaml"
    path.write_text(plan.replace(old, new), encoding="utf-8")
    with pytest.raises(OptionError, match=said) as raised:
        read_plan(path)
    assert "slip.yaml, line " in raised.value.problem


def test_a_single_test_set_needs_no_name(scans):
    path = scans / "single.yaml"
    path.write_text(
        text(
            ("  away: {data: away, millimetres: false}\n", ""),
            ("{held out: theirs/here, away: theirs/away}", "theirs/here"),
        )
    )
    (method,) = (m for m in read_plan(path).methods if m.masks)
    assert method.masks.folders == {"held out": (scans / "theirs" / "here").resolve()}


def test_the_resolved_plan_is_itself_a_plan(scans, tmp_path):
    plan = read_plan(scans / "plan.yaml")
    path = tmp_path / "resolved.yaml"
    path.write_text(yaml.safe_dump(plan.to_values(), sort_keys=False))
    assert read_plan(path).to_values() == plan.to_values()


def test_a_method_that_uses_test_references_is_marked_and_not_ranked(folder):
    given_references = text(
        ("target: [liver=1]", "target: [liver=1]\n    uses_test_references: true\n    transductive: true")
    )
    study(options(write_plan(folder, given_references, scans=False), folder / "out", only=["method=nnU-Net"]))
    assert "nnU-Net†‡§" in (folder / "out" / "report.html").read_text()


def test_a_budget_of_no_masks_is_for_what_learns_from_none(scans):
    row = ROW.replace('["100%"]', '["0 slices"]')
    path = scans / "zero.yaml"
    path.write_text(text(row=row).replace('["1 scans", "100%"]\ndraws', '["0 slices", "1 scans", "100%"]\ndraws'))
    by_name = {method.name: method.budgets for method in read_plan(path).methods}
    assert by_name == {"scratch": ("1 scans", "100%"), "nnU-Net": ("0 slices",)}
