"""Follow-ups of a study: masks of other methods refined or propagated through the scan; SAM-Mix beside them."""

from __future__ import annotations

import math
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from frugalseg.dataset.targets import parse_targets
from frugalseg.engine.files import read_json
from frugalseg.errors import OptionError, ScanError
from frugalseg.evaluation.evaluate import evaluate
from frugalseg.evaluation.results import SUMMARY
from frugalseg.options import EvaluateOptions, PropagateOptions, RefineOptions, StudyStatusOptions
from frugalseg.propagation import propagate as propagation
from frugalseg.records.predictions import PREDICTIONS_FILE
from frugalseg.records.study import GridRecord, PlannedModel, PlannedTrial
from frugalseg.refinement.refine import refine
from frugalseg.studies.jobs import propagate_middle as room
from frugalseg.studies.jobs.datasets import resolve_datasets
from frugalseg.studies.jobs.grid import build_grid
from frugalseg.studies.jobs.job import EvaluatedJob, ModelJob
from frugalseg.studies.jobs.propagate_middle import PropagateMiddleSlice, organ_middle_slices, propagate_middle_slices
from frugalseg.studies.jobs.runner import _delete_tests, run_job
from frugalseg.studies.jobs.state import GRID, lock_study, read_state, write_state
from frugalseg.studies.plan.reader import read_plan
from frugalseg.studies.report.results import collect_results
from frugalseg.studies.run import study
from frugalseg.studies.status import study_status
from tests.promptable.tiny_networks import sam
from tests.scans import write_cohort
from tests.studies.plans import PLAN, options, write_plan

MINE = """\
  sam-mix:
    sam_mix: {base: SAM, adapt: decoder, steps: 2, validate_every: 2, classifier_size: 32, device: cpu, precision: "32"}
  scratch + sam: {of: scratch, refine: {model: SAM, min_iou: 0, device: cpu, precision: "32"}}
  scratch + propagated: {of: scratch, propagate: {model: SAM, device: cpu, precision: "32"}}
  one slice: {propagate: {model: SAM, device: cpu, precision: "32"}}
  oracle boxes: {refine: {model: SAM, oracle: true, device: cpu, precision: "32"}}
  sam-mix oracle: {of: sam-mix, predict: {oracle: true, device: cpu, precision: "32"}}
budgets:"""
OTHERS = """\
  polycl: {pretrain: {method: polycl-s}}
  polycl again:
    pretrain: {method: polycl-s}
    finetune: {lr: 0.001}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Scans, and a tiny SAM as the weights of every model."""
    root = tmp_path_factory.mktemp("further")
    write_plan(root)
    sam().save_pretrained(root / "sam")
    return root


def text(folder, *replacements):
    plan = PLAN.replace(OTHERS, "").replace("pretrain: {steps: 2", "# pretrain: {steps: 2")
    plan = plan.replace("finetune: {steps: 2,", "finetune: {steps: 20, lr: 0.01,")  # enough to find the liver
    plan = plan.replace("budgets:", MINE).replace("SAM", str(folder / "sam"))
    for old, new in replacements:
        assert old in plan, old
        plan = plan.replace(old, new)
    return plan


@pytest.fixture(scope="module")
def finished(folder):
    """The first seed of the study, run to its end."""
    path = write_plan(folder, text(folder), scans=False)
    study(options(path, folder / "out", jobs=2, only=["seed=0"]))
    return folder / "out"


def grid_of(folder, plan_text):
    plan = read_plan(write_plan(folder, plan_text, scans=False))
    datasets = resolve_datasets(plan, folder / "grid")
    for source in datasets.values():
        assert run_job(source.job, folder / "grid", threads=1).state == "done"
    return build_grid(plan, datasets, folder / "grid", threads=1)


def test_every_trial_is_done_and_lists_what_it_used(finished):
    trials = collect_results(finished).trials
    trials = trials[trials["seed"] == 0].set_index("method")
    assert (trials["state"] == "done").all()
    assert set(trials.index[trials["uses_test_references"]]) == {"one slice", "oracle boxes", "sam-mix oracle"}
    assert trials.loc["one slice", "test_slices"] == 3  # of one scan here and of two away
    assert math.isnan(trials.loc["oracle boxes", "test_slices"])
    assert math.isnan(trials.loc["sam-mix oracle", "test_slices"])
    assert trials.loc["scratch + propagated", "test_slices"] == 0
    for method in ("one slice", "oracle boxes"):
        assert (trials.loc[method, ["masks", "finetune_minutes", "validation_scans"]] == 0).all()
        assert trials.loc[method, ["draws", "seeds", "trained"]].tolist() == ["0", "0 1", False]
    trained = ["masks", "mask_scans", "parameters", "finetune_minutes"]
    for method in ("scratch + sam", "scratch + propagated"):
        assert trials.loc[method, trained].tolist() == trials.loc["scratch", trained].tolist()
    mix = trials.loc["sam-mix"]
    assert mix["organ_present_labels"] > mix["masks"] > 0  # of all training slices; masks of one scan
    assert mix["parameters"] > 0


def test_methods_are_marked_in_the_report(finished):
    page = (finished / "report.html").read_text()
    assert "oracle boxes‡" in page
    assert "‡ uses test references" in page
    assert "scratch + sam‡" not in page


def test_refined_masks_are_those_of_the_command(finished, folder):
    grid = read_json(finished / "grid.json")
    by_name = {(trial["method"], trial["seed"]): trial for trial in grid["trials"]}
    coarse, refined = (by_name[name, 0]["tests"]["away"] for name in ("scratch", "scratch + sam"))
    made = refine(
        RefineOptions(
            images=folder / "away" / "images",
            masks=(finished / coarse).with_name("masks"),
            out=folder / "by hand",
            model=str(folder / "sam"),
            min_iou=0,
            target=["liver=6"],
            device="cpu",
            precision="32",
        )
    )
    assert made
    for case, path in made.items():
        before, theirs = (
            nib.load((finished / row).with_name("masks") / path.name).dataobj for row in (coarse, refined)
        )
        assert np.array_equal(theirs, nib.load(path).dataobj), case
        assert np.any(before), case
        assert not np.array_equal(theirs, before), case


def test_the_propagated_slice_is_the_middle_one_and_is_not_scored(finished, folder):
    trial = next(c for c in read_json(finished / "grid.json")["trials"] if c["method"] == "one slice")
    note = read_json((finished / trial["tests"]["away"]).with_name("masks") / PREDICTIONS_FILE)
    assert len(note["annotated"]) == 2
    for case, slices in note["annotated"].items():
        labels = np.asarray(nib.load(folder / "away" / "labels" / f"{case}.nii.gz").dataobj)
        shown = np.flatnonzero((labels == 6).any(axis=(0, 1)))
        assert slices == [shown[len(shown) // 2]]
    summary = read_json(finished / trial["tests"]["away"] / SUMMARY)
    assert summary["annotated_slices_left_out"] == note["annotated"]


def test_masks_propagated_from_predictions_are_scored_on_all_slices(finished):
    trial = next(c for c in read_json(finished / "grid.json")["trials"] if c["method"] == "scratch + propagated")
    for test in trial["tests"].values():
        assert any((finished / test).with_name("annotations").iterdir()), "there was nothing to propagate"
        assert read_json(finished / test / SUMMARY)["annotated_slices_left_out"] == {}


def test_status_tells_of_a_running_job_without_a_model(finished):
    trial = next(c for c in read_json(finished / "grid.json")["trials"] if c["method"] == "one slice")
    before = read_state(finished, trial["id"])
    write_state(finished, trial["id"], replace(before, state="running"))
    try:
        with lock_study(finished):
            told = study_status(StudyStatusOptions(folder=finished)).text
    finally:
        write_state(finished, trial["id"], before)
    assert f"running: {trial['id']}: making masks" in told


def test_what_needs_no_model_is_made_once(finished, folder):
    trials = [c for c in read_json(finished / "grid.json")["trials"] if c["method"] == "one slice"]
    assert [(c["draws"], c["seeds"]) for c in trials] == [([0], [0, 1])]  # one trial that stands for both seeds
    grid = grid_of(folder, text(folder))
    kinds = [type(job) for job in grid.list_jobs()]
    assert kinds.count(ModelJob) == 2 * 2  # scratch and sam-mix, two seeds
    assert kinds.count(EvaluatedJob) == 3 * 2 + 2


def test_a_follow_up_selected_alone_includes_the_model_it_needs(folder):
    grid = grid_of(folder, text(folder))
    trial = next(c for c in grid.trials if c.method == "scratch + sam" and c.seed == 1)
    model, refined = grid.list_jobs([trial])
    assert model.id == next(c.job.id for c in grid.trials if c.method == "scratch" and c.seed == 1)
    assert refined.needs == (model.id,)


def test_other_options_or_weights_are_other_masks(folder, tmp_path):
    def names(*replacements):
        return {c.method: c.job.id for c in grid_of(folder, text(folder, *replacements)).trials if c.seed == 0}

    before = names()
    changed = names(("min_iou: 0", "min_iou: 0.1"))
    assert {m for m in before if before[m] != changed[m]} == {"scratch + sam"}
    sam(seed=1).save_pretrained(folder / "other")
    other = names((f"refine: {{model: {folder}/sam, min_iou", f"refine: {{model: {folder}/other, min_iou"))
    assert other["scratch + sam"] != before["scratch + sam"]
    windowed = names(("away/labels, target: [liver=6]", "away/labels, window: [0, 100], target: [liver=6]"))
    assert windowed["scratch + sam"] == before["scratch + sam"]  # but not the folder of that test set's masks


def test_masks_of_other_intensity_scalings_are_in_other_folders(folder):
    def where(*replacements):
        grid = grid_of(folder, text(folder, *replacements))
        trial = next(c for c in grid.trials if c.method == "scratch + sam")
        return {test.name: test.evaluate.predictions for test in trial.job.tests}

    before = where()
    after = where(("away/labels, target: [liver=6]", "away/labels, window: [0, 100], target: [liver=6]"))
    assert before["held out"] == after["held out"]
    assert before["away"] != after["away"]


def test_embeddings_are_shared_except_by_the_engine_without_any(folder):
    propagated = "propagated: {of: scratch, propagate: {"
    for engine, cache in (("box", folder / "grid" / "embeddings"), ("sam2", None)):
        grid = grid_of(folder, text(folder, (propagated, f"{propagated}engine: {engine}, ")))
        trial = next(c for c in grid.trials if c.method == "scratch + propagated")
        assert {test.make.propagate.cache for test in trial.job.tests} == {cache}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "{of: scratch, refine: {model",
            "{of: nobody, refine: {model",
            "averages them 'nobody'",
        ),
        (
            "{of: scratch, refine: {model",
            "{of: one slice, refine: {model",
            "averages them 'one slice'",
        ),
        ("{of: scratch, refine: {model: SAM, min_iou: 0,", "{refine: {model: SAM,", "refine: the method is not stated"),
        ("{of: sam-mix, predict", "{of: scratch, predict", "scratch is not a sam_mix method"),
        (
            "{refine: {model: SAM, oracle",
            "{of: scratch, refine: {model: SAM, oracle",
            "do not depend on a method's masks",
        ),
        ("{of: sam-mix, predict: {oracle: true,", "{of: sam-mix, finetune: {", "finetune: is unknown here"),
        ("min_iou: 0,", "min_iou: 2,", "min_iou: 2 is not in 0…1"),
        ("min_iou: 0,", "masks: here,", "is set by the study"),
        ("min_iou: 0,", "margins: 3,", "is unknown here"),
        ("min_iou: 0,", "oracle: maybe,", "not true or false"),
        ("one slice: {propagate: {model: SAM", "one slice: {propagate: {model: none", "unknown weights 'none'"),
        ("one slice: {propagate: {model: SAM,", "one slice: {propagate: {oracle: true,", "is set by the study"),
        ("base: SAM", "base: none", "unknown weights 'none'"),
        ("sam_mix: {base", "finetune: {steps: 2}\n    sam_mix: {base", "finetune: is unknown here"),
        ("one slice: {propagate", "one slice: {of: scratch, refine: {}, propagate", "refine and propagate"),
        (
            'scratch + propagated: {of: scratch, propagate: {model: SAM, device: cpu, precision: "32"}}',
            "scratch + propagated: {of: scratch}",
            "of: needs exactly one of .* found none",
        ),
    ],
)
def test_mistakes_in_plans_are_reported_with_their_line(folder, old, new, said):
    old, new = (part.replace("SAM", str(folder / "sam")) for part in (old, new))
    with pytest.raises(OptionError, match=said) as raised:
        read_plan(write_plan(folder, text(folder, (old, new)), scans=False))
    assert "plan.yaml, line " in raised.value.problem


def test_weights_beside_the_plan_are_found_from_anywhere(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    whole = str((folder / "sam").resolve())
    plan = read_plan(write_plan(folder, text(folder).replace(str(folder / "sam"), "sam"), scans=False))
    methods = {method.name: method for method in plan.methods}
    assert methods["sam-mix"].training.values["base"] == whole
    assert {m.masks.values["model"] for m in plan.methods if m.masks and m.name != "sam-mix oracle"} == {whole}


def test_training_a_model_again_deletes_the_masks_made_from_its_masks(tmp_path):
    def trial(folders, *tests):
        paths = {test: f"tests/{test}/evaluation" for test in tests}
        models = tuple(PlannedModel(folder, "", None) for folder in folders)
        return PlannedTrial("m", "m", "unet", "1 scan", 0, 0, (0,), (0,), False, False, None, models, paths)

    trials = [trial(["finetune/m"], "own"), trial(["finetune/m"], "refined", "not yet"), trial(["finetune/n"], "other")]
    trials += [trial([], "untrained"), trial(["finetune/n", "finetune/m"], "averaged")]
    GridRecord(tuple(trials), ()).write(tmp_path / GRID)
    for name in ("own", "refined", "other", "untrained", "averaged"):
        (tmp_path / "tests" / name / "masks").mkdir(parents=True)
    _delete_tests(tmp_path / "finetune" / "m")
    assert {path.name for path in (tmp_path / "tests").iterdir()} == {"other", "untrained"}


def test_sam_mix_is_listed_at_one_backbone(folder):
    both = ("backbones: [unet]", "backbones: [unet, resunet]")
    plan = read_plan(write_plan(folder, text(folder, both), scans=False))
    assert {m.name: m.backbones for m in plan.methods if len(m.backbones) == 1} == dict.fromkeys(
        ("sam-mix", "one slice", "oracle boxes", "sam-mix oracle"), ("unet",)
    )
    own = ("sam_mix: {base", "backbones: [unet, resunet]\n    sam_mix: {base")
    with pytest.raises(OptionError, match="uses none of the backbones"):
        read_plan(write_plan(folder, text(folder, both, own), scans=False))


def test_the_resolved_plan_is_itself_a_plan(folder, finished):
    again = read_plan(finished / "plan.yaml")
    assert again.to_values() == read_plan(write_plan(folder, text(folder), scans=False)).to_values()


def test_each_organ_s_middle_slice():
    classes = np.zeros((9, 4, 4), int)
    classes[2:5, 0, 0] = 1  # 2 3 4
    classes[4:8, 1, 1] = 2  # 4 5 6 7
    assert organ_middle_slices(classes) == [3, 6]
    assert organ_middle_slices(classes == 2) == [6]
    assert organ_middle_slices(np.zeros((3, 2, 2))) == []


def test_the_middle_slice_is_one_of_the_scan_whatever_axes_the_mask_has(folder, tmp_path):
    images, labels = write_cohort(tmp_path, 1, shape=(32, 32, 6))
    path = labels / "scan_00.nii.gz"
    nib.save(nib.load(path).as_reoriented(np.array([[2, -1], [0, 1], [1, -1]], float)), path)
    given = PropagateOptions(
        images=images,
        annotations=tmp_path / "annotations",
        out=tmp_path / "masks",
        model=str(folder / "sam"),
        target=["liver=6"],
        device="cpu",
        precision="32",
    )
    propagate_middle_slices(PropagateMiddleSlice(labels, True, given))
    scan, drawn = nib.load(images / "scan_00.nii.gz"), nib.load(given.annotations / "scan_00.nii.gz")
    assert drawn.shape == scan.shape
    assert np.array_equal(drawn.affine, scan.affine)
    annotated = read_json(given.out / "predictions.json")["annotated"]["scan_00"]
    assert np.flatnonzero(drawn.get_fdata().any(axis=(0, 1))).tolist() == annotated
    assert len(annotated) == 1


def test_a_stopped_propagation_resumes_with_the_same_result(folder, tmp_path, monkeypatch):
    images, labels = write_cohort(tmp_path, 2, shape=(32, 32, 6))

    def propagate_into(out):
        given = PropagateOptions(
            images=images,
            annotations=tmp_path / out / "annotations",
            out=tmp_path / out / "masks",
            model=str(folder / "sam"),
            target=["liver=6"],
            device="cpu",
            precision="32",
            overwrite=True,
            resume="auto",
        )
        propagate_middle_slices(PropagateMiddleSlice(labels, False, given))
        return {path.name: nib.load(path).get_fdata() for path in given.out.glob("*.nii.gz")}

    def stop(case, task, rows):
        if case == "scan_01":
            raise KeyboardInterrupt

    with monkeypatch.context() as stopping:
        stopping.setattr(propagation, "_announce", stop)
        with pytest.raises(KeyboardInterrupt):
            propagate_into("stopped")
    first = tmp_path / "stopped" / "masks" / "scan_00.nii.gz"
    before = first.stat().st_mtime_ns
    whole, gone_on = propagate_into("whole"), propagate_into("stopped")
    assert first.stat().st_mtime_ns == before
    assert whole.keys() == gone_on.keys() == {"scan_00.nii.gz", "scan_01.nii.gz"}
    for name, mask in whole.items():
        assert mask.any()
        assert np.array_equal(mask, gone_on[name]), name
    assert read_json(tmp_path / "stopped" / "masks" / PREDICTIONS_FILE)["annotated"] == {}


def middle_options(folder, images, out, **more):
    given = {"model": str(folder / "sam"), "target": ["liver=6", "spleen=1"], "device": "cpu", "precision": "32"}
    return PropagateOptions(
        images=images, annotations=out / "annotations", out=out / "masks", overwrite=True, resume="auto", **given | more
    )


def write_thin_scans(folder):
    """A scan of one slice, one of two slices with another organ in the middle of each, and a whole one."""
    images, labels = write_cohort(folder, 3, shape=(32, 32, 6))
    thin = {"scan_00": {2: 6}, "scan_01": {2: 6, 3: 1}}  # slice → the organ that is kept in it
    for case, kept in thin.items():
        for path in (images / f"{case}.nii.gz", labels / f"{case}.nii.gz"):
            scan = nib.load(path)
            planes = [np.asarray(scan.dataobj)[:, :, z] for z in kept]
            if path.parent == labels:
                planes = [plane * (plane == organ) for plane, organ in zip(planes, kept.values(), strict=True)]
            nib.save(nib.Nifti1Image(np.stack(planes, axis=2), scan.affine), path)
    return images, labels


def test_scans_of_which_the_references_leave_no_slice_to_score_are_left_out(folder, tmp_path):
    images, labels = write_thin_scans(tmp_path)
    given = middle_options(folder, images, tmp_path)
    for _ in range(2):  # a resumed one, too
        with pytest.warns(UserWarning, match=r"scan_00, scan_01: every slice is annotated.*left out.*test on scans of"):
            propagate_middle_slices(PropagateMiddleSlice(labels, True, given))
        assert [path.name for path in given.out.glob("*.nii.gz")] == ["scan_02.nii.gz"]
        shared = {"references": labels, "target": given.target, "report": False, "workers": 0, "overwrite": True}
        evaluate(EvaluateOptions(predictions=given.out, out=tmp_path / "evaluation", **shared))
        summary = read_json(tmp_path / "evaluation" / SUMMARY)
        assert summary["complete"]
        assert set(summary["not_predicted"]) == {"scan_00", "scan_01"}
        assert set(summary["annotated_slices_left_out"]) == {"scan_02"}


def test_a_test_set_of_which_no_slice_is_left_to_score_is_refused(folder, tmp_path):
    images, labels = write_thin_scans(tmp_path)
    given = middle_options(folder, images, tmp_path, case=["scan_00", "scan_01"])
    with pytest.raises(ScanError, match="scan_00, scan_01: every slice is annotated") as raised:
        propagate_middle_slices(PropagateMiddleSlice(labels, True, given))
    assert raised.value.cure == "test this method on scans of more slices"


def test_left_out_scans_are_recorded_where_nothing_is_propagated(folder, tmp_path):
    images, labels = write_thin_scans(tmp_path)
    whole = nib.load(labels / "scan_02.nii.gz")
    nib.save(nib.Nifti1Image(np.zeros(whole.shape, np.uint8), whole.affine), labels / "scan_02.nii.gz")
    given = middle_options(folder, images, tmp_path)
    with pytest.warns(UserWarning, match="scan_00, scan_01"):
        propagate_middle_slices(PropagateMiddleSlice(labels, True, given))
    assert set(read_json(given.out / PREDICTIONS_FILE)["failed"]) == {"scan_00", "scan_01"}


def test_predicted_masks_of_which_every_slice_is_a_middle_one_are_kept(folder, tmp_path):
    images, labels = write_thin_scans(tmp_path)
    given = middle_options(folder, images, tmp_path)
    propagate_middle_slices(PropagateMiddleSlice(labels, False, given))
    for case in ("scan_00", "scan_01"):
        made, before = (nib.load(where / f"{case}.nii.gz").get_fdata() for where in (given.out, labels))
        assert np.array_equal(made, before)
    record = read_json(given.out / PREDICTIONS_FILE)
    assert record["annotated"] == record["failed"] == {}


def test_an_empty_mask_stays_empty_and_the_others_are_propagated(tmp_path, monkeypatch):
    images, labels = write_cohort(tmp_path, 2, shape=(32, 32, 6))
    empty = labels / "scan_01.nii.gz"
    image = nib.load(empty)
    nib.save(nib.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine), empty)
    asked = []
    monkeypatch.setattr(room, "propagate", asked.append)
    given = PropagateOptions(
        images=images, annotations=tmp_path / "annotations", out=tmp_path / "out", target=["liver=6"]
    )
    propagate_middle_slices(PropagateMiddleSlice(labels, True, given))
    assert [o.case for o in asked] == [["scan_00"]]
    written = np.asarray(nib.load(tmp_path / "annotations" / "scan_00.nii.gz").dataobj)
    reference = np.asarray(nib.load(labels / "scan_00.nii.gz").dataobj)
    (middle,) = np.flatnonzero(written.any(axis=(0, 1)))
    assert np.array_equal(written[:, :, middle] == 6, reference[:, :, middle] == 6)
    assert set(np.unique(written)) == {0, *next(iter(parse_targets(["liver=6"]).values()))}
    assert not np.asarray(nib.load(tmp_path / "out" / "scan_01.nii.gz").dataobj).any()
