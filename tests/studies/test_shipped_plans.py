"""The plans that come along, as far as they go without their data: every trial of them on small made-up scans."""

from __future__ import annotations

import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml

from frugalseg.dataset.store import SliceStore
from frugalseg.dataset.targets import parse_targets
from frugalseg.engine.files import read_json
from frugalseg.options import FinetuneOptions, PretrainOptions, StudyOptions
from frugalseg.pretraining.methods import resolve_method
from frugalseg.pretraining.task import PretrainTask
from frugalseg.records.split import Split
from frugalseg.segmentation.presets import make_schedule, resolve_preset
from frugalseg.studies.jobs.datasets import check_data, resolve_datasets
from frugalseg.studies.jobs.grid import build_grid
from frugalseg.studies.jobs.job import ModelJob, PretrainJob
from frugalseg.studies.jobs.runner import run_job
from frugalseg.studies.plan.options import make_options
from frugalseg.studies.plan.reader import read_plan
from frugalseg.studies.plan.shipped import SHIPPED_PLANS
from frugalseg.studies.plan.weights import hash_weights
from frugalseg.studies.run import list_mask_preparations
from frugalseg.studies.run import study as study_command
from tests.scans import AFFINE_LPS

SHIPPED = [
    (path, study)
    for path in sorted(SHIPPED_PLANS.glob("*.yaml"))
    for study in yaml.safe_load(path.read_text(encoding="utf-8")).get("studies", [None])
]


def data_sets(content, study):
    """Name of a folder of scans → the targets that the plan looks for in it, or None where it has no masks."""
    top = {**content, **(content.get("studies", {}).get(study) or {})}
    sets = [*top.get("data", {}).values(), *(one for one in top.get("tests", {}).values() if "images" in one)]
    return {str(one["images"]).removesuffix("/images"): one.get("target") for one in sets if "images" in one}


def write_scans(folder, targets, number, slices):
    """Eight scans; every organ is in most of the middle slices, and not in all."""
    rng = np.random.default_rng(number)
    values = [value for of_organ in parse_targets(targets or []).values() for value in of_organ]
    for kind in ("images", "labels") if targets else ("images",):
        (folder / kind).mkdir(parents=True)
    for i in range(8):
        name = f"patient{number:02d}{i:02d}_frame01.nii.gz"
        labels = np.zeros((32, 32, slices), np.uint16)
        for k, value in enumerate(values):
            row, column = 4 + 3 * (k % 8), 4 + 12 * (k // 8)
            labels[row : row + 3, column : column + 12, slices // 5 : slices * 14 // 25] = value
        image = rng.normal(40, 30, labels.shape).astype(np.int16)
        nib.save(nib.Nifti1Image(image, AFFINE_LPS), folder / "images" / name)
        if targets:
            nib.save(nib.Nifti1Image(labels, AFFINE_LPS), folder / "labels" / name)


@pytest.fixture
def weights(monkeypatch, tmp_path):
    """As if weights of promptable models were here."""
    path = tmp_path / "weights"
    path.write_bytes(b"weights")
    monkeypatch.setattr("frugalseg.promptable.load.find_weights", lambda name: path)
    hash_weights.cache_clear()
    yield
    hash_weights.cache_clear()


def small_plan(path, study, tmp_path, monkeypatch):
    """The plan with slices of 32 pixels, and made-up scans at the places that it names."""
    text = path.read_text(encoding="utf-8")
    content = yaml.safe_load(text)
    for number, (place, targets) in enumerate(data_sets(content, study).items()):
        variable = re.fullmatch(r"\$\{(\w+)\}", place)
        folder = tmp_path / (variable[1] if variable else Path(place).name)
        write_scans(folder, targets, number, slices=100 if "100 slices" in text else 40)
        text = text.replace(f"{place}/", f"{folder}/")
    for name in set(re.findall(r"\$\{(\w+)\}", text)):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "resnet18.safetensors").touch()
        monkeypatch.setenv(name, str(tmp_path / name))
    for name in ("LiTS", "TotalSegmentator", "MSD"):  # masks of another program, all in label value 1
        for mask in (tmp_path / name.upper() / "labels").glob("*") if "NNUNET" in text else ():
            image = nib.load(mask)
            (tmp_path / "NNUNET" / name).mkdir(exist_ok=True)
            liver = (np.asarray(image.dataobj) > 0).astype(np.uint8)
            nib.save(nib.Nifti1Image(liver, image.affine), tmp_path / "NNUNET" / name / mask.name)
    text = re.sub(r"\bsplit: folds/\S+", "fractions: [0.125, 0.25]", text)  # of patients who are not among the made-up
    copy = tmp_path / path.name
    copy.write_text(re.sub(r"\bsize: \d+", "size: 32", text), encoding="utf-8")
    return read_plan(copy, study)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("path", "study"), SHIPPED, ids=lambda value: getattr(value, "name", value))
def test_every_trial_of_a_shipped_plan_can_be_made(path, study, tmp_path, monkeypatch, weights):
    plan = small_plan(path, study, tmp_path, monkeypatch)
    out = tmp_path / "out"
    datasets = resolve_datasets(plan, out)
    for job in (source.job for source in datasets.values()):
        assert run_job(job, out, threads=1).state == "done"
    check_data(plan, datasets)
    for job, _ in list_mask_preparations(plan, datasets, out):
        ended = run_job(job, out, threads=1)
        assert ended.state == "done", ended.error
    grid = build_grid(plan, datasets, out, threads=1)
    assert {(c.method, c.backbone, c.budget) for c in grid.trials} == {
        (m.name, backbone, budget) for m in plan.methods for backbone in m.backbones for budget in m.budgets
    }
    for job in grid.list_jobs():
        if isinstance(job, PretrainJob) and job.options.backbone in ("unet", "supercl-unet") and job.options.seed == 0:
            store = SliceStore.open(job.options.data)
            assert PretrainTask(job.options, store, store.split(), torch.device("cpu")).steps > 0
        if isinstance(job, ModelJob) and isinstance(job.options, FinetuneOptions) and job.options.encoder is None:
            assert resolve_preset(job.options)
    whole = [c for c in grid.trials if c.budget == "100%" and c.models]
    assert all(c.runs.draws == plan.draws for c in whole)
    runs = {(c.method, c.backbone) for c in whole}
    assert len(whole) == len(runs) * len(plan.seeds), "one run a seed where there is nothing to draw"


def test_every_patient_is_tested_in_one_fold():
    folds = [Split.read(path) for path in sorted((SHIPPED_PLANS / "folds").glob("btcv-*.json"))]
    assert sorted(patient for fold in folds for patient in fold.test) == [f"btcv_{n:02d}" for n in range(16)]
    assert {(len(fold.train), len(fold.validation), len(fold.test)) for fold in folds} == {(10, 2, 4)}
    named = set(re.findall(r"folds/\S+", (SHIPPED_PLANS / "organs.yaml").read_text(encoding="utf-8")))
    assert named == {f"folds/{path.name}" for path in (SHIPPED_PLANS / "folds").iterdir()}


def read(name, study, tmp_path, monkeypatch):
    return {m.name: m for m in small_plan(SHIPPED_PLANS / name, study, tmp_path, monkeypatch).methods}


def paper_finetuning(method):
    """A fine-tuning as PolyCL's paper has it: its preset, 100 epochs of the middle 30 %, in batches of 10."""
    options = make_options(FinetuneOptions, method.training.values)
    return (options.preset, options.epochs, options.steps, options.middle_fraction, options.batch_size, options.lr) == (
        *("paper", 100, None),
        *(0.3, 10, None),
    )


def paper_pretraining(method):
    """A pre-training as it has it: 1e-4, batches of 20, restarts every 10 of 100 epochs, the middle 30 %, no decay."""
    options = make_options(PretrainOptions, method.pretrain)
    chosen = resolve_method(options)
    rate = options.lr or chosen.recipe.lr
    return (
        (rate, options.batch_size, options.epochs, options.steps, options.restart_epochs) == (1e-4, 20, 100, None, 10)
        and (chosen.recipe.schedule, chosen.recipe.weight_decay, chosen.recipe.optimizer)
        == ("warm_restarts", 0, "adam")
        and options.middle_fraction == 0.3
        and chosen.head is None  # PolyCL's own, a linear layer
    )


@pytest.mark.parametrize(
    ("plan", "study", "pretrained", "control"),
    [
        (
            "small-ct.yaml",
            None,
            ["polycl-m as published", "simclr as in PolyCL's paper", "supcon as in PolyCL's paper"],
            "paper from scratch",
        ),
        (
            "polycl-tables.yaml",
            "methods",
            ["SimCLR", "SupCon", "PolyCL-O", "PolyCL-S", "PolyCL-M", "random-pairs"],
            "supervised",
        ),
        ("polycl-tables.yaml", "sam", ["PolyCL-O", "PolyCL-S", "PolyCL-M"], "supervised"),
    ],
)
def test_rows_as_published_are_as_published(plan, study, pretrained, control, tmp_path, monkeypatch, weights):
    methods = read(plan, study, tmp_path, monkeypatch)
    assert methods[control].pretrain is None
    for name in (*pretrained, control):
        assert paper_finetuning(methods[name]), name
        assert {
            norm
            for backbone in methods[name].backbones
            if backbone == "unet"
            for norm in methods[name].choose_norms(backbone)
        } == {"instance"}
    for name in pretrained:
        assert paper_pretraining(methods[name]), name
    if plan == "small-ct.yaml":
        wider = methods["polycl-m as published, pre-trained on all slices"]
        assert paper_finetuning(wider)
        assert not paper_pretraining(wider)


def test_a_hundred_epochs_of_the_paper_end_with_a_cycle_of_its_schedule():
    options = make_options(FinetuneOptions, {"preset": "paper", "epochs": 100, "middle_fraction": 0.3})
    preset = resolve_preset(options)
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = preset.make_optimizer([parameter])
    per_epoch = 7
    schedule = make_schedule(preset, optimizer, 100 * per_epoch, per_epoch)
    rates = []
    for _ in range(100 * per_epoch):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[0] == rates[90 * per_epoch] == 1e-3
    assert rates[-1] == min(rates) < 1e-6


def test_supercl_as_its_code_has_it(tmp_path, monkeypatch, weights):
    for study, batch in (("acdc", 16), ("hippocampus", 32)):
        methods = read("supercl-tables.yaml", study, tmp_path / study, monkeypatch)
        row, control = methods["SuperCL as its code has it"].pretrain, methods["random-pairs"].pretrain
        assert (row["lr"], row["superpixels"], row["segments"]) == (0.0143, "online", 100)
        assert row.get("intra_slices", PretrainOptions.intra_slices) == 1
        assert (row["pixel_sample"], row["asp_norm"], row["augment"]) == ("stride", "global", "published")
        pretrained = [m for m in methods.values() if m.pretrain is not None]
        assert {m.pretrain["recipe"] for m in pretrained} == {"supercl"}
        assert {m.pretrain["batch_size"] for m in pretrained} == {batch}
        assert control["augment"] == "strong"


def test_sam_mix_stands_at_the_budgets_of_its_paper(tmp_path, monkeypatch, weights):
    methods = read("sam-mix-tables.yaml", None, tmp_path, monkeypatch)
    slices = ("5 slices", "50 slices", "100 slices")
    assert methods["SAM-Mix"].budgets == methods["SAM-Mix, boxes of references"].budgets == slices
    assert methods["SAM, boxes of references"].budgets == ("0 slices",)
    assert methods["SAM, boxes of references"].uses_test_references
    assert methods["nnU-Net"].budgets == ("100%",)
    assert methods["supervised"].budgets == (*slices, "100%")


def test_a_study_records_the_file_of_a_plan_that_was_given_by_name(tmp_path, monkeypatch):
    def stop(*_):
        raise InterruptedError

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("frugalseg.studies.run.resolve_datasets", stop)
    with pytest.raises(InterruptedError):
        study_command(StudyOptions(plan=Path("smoke"), out=tmp_path / "out", threads=1))
    assert read_json(tmp_path / "out" / "study.json")["plan"] == str(SHIPPED_PLANS / "smoke.yaml")
