"""Plans: what they mean, and that every slip is named with its line before anything runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from frugalseg.errors import OptionError
from frugalseg.studies.plan.reader import read_plan
from frugalseg.studies.plan.shipped import SHIPPED_PLANS
from tests.studies.plans import PLAN, changed, tiny_plan, write_plan


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("plan")
    write_plan(root)
    return root


def read(folder, text):
    return read_plan(write_plan(folder, text, scans=False))


def line_of(text, part):
    return 1 + text[: text.index(part)].count("\n")


def test_a_plan_in_full(folder):
    plan = read(folder, PLAN)
    assert (plan.name, plan.train, plan.baseline) == ("tiny", "tiny", "scratch")
    assert plan.data["tiny"].options.images == folder / "images"
    assert plan.data["tiny"].organs == ["liver"]
    assert [(t.name, t.patients, t.in_domain, t.millimetres) for t in plan.tests] == [
        ("held out", "test", True, True),
        ("away", "all", False, False),
    ]
    scratch, polycl, again = plan.methods
    assert scratch.pretrain is None
    assert polycl.pretrain == {"steps": 2, "batch_size": 4, "device": "cpu", "precision": "32", "method": "polycl-s"}
    assert again.training.values["lr"] == 0.001
    assert "scratch" in scratch.note
    assert "polycl-s" in polycl.note


def test_the_resolved_plan_is_a_plan_and_means_the_same(folder, tmp_path):
    resolved = read(folder, PLAN).to_values()
    path = tmp_path / "resolved.yaml"
    path.write_text(yaml.safe_dump(resolved, sort_keys=False))
    assert read_plan(path).to_values() == resolved
    assert resolved["methods"]["scratch"]["finetune"]["preset"] == "robust"
    assert Path(resolved["data"]["tiny"]["images"]).is_absolute()


@pytest.mark.parametrize(
    ("old", "new", "part", "said"),
    [
        ("name: tiny", "nam: tiny", "nam:", "nam: is unknown here"),
        ("train: tiny", "train: tine", "train:", "no data set 'tine'"),
        ("{data: tiny}", "{data: tine}", "held out", "no data set 'tine'"),
        ("millimetres: false", "milimetres: false", "milimetres", "is unknown"),
        ("millimetres: false", "millimetres: 3", "away: {data", "expected true or false|not true or false"),
        ("method: polycl-s}}", "method: polyc}}", "polyc}}", "'polyc' is not one of"),
        ("lr: 0.001", "preset: magic", "magic", "'magic' is not one of"),
        ("lr: 0.001", "lr: -1", "lr: -1", "lr: -1.0: expected"),
        ("lr: 0.001", "seed: 4", "seed: 4", "list the seeds under seeds:"),
        ("lr: 0.001", "bath_size: 4", "bath_size", "is unknown here"),
        ("lr: 0.001", "draw: 1", "draw: 1", "list the draws under draws:"),
        (
            "pretrain: {steps: 2,",
            "pretrain: {tau: 0.2, steps: 2,",
            "pretrain: {tau",
            "tau: was renamed\n.*write temperature",
        ),
        (
            "scratch: {}",
            "scratch: {}\n  refined: {of: scratch, refine: {boxes: body}}",
            "refined: {of",
            "boxes: body was renamed\n.*write component-3d",
        ),
        ("lr: 0.001", "steps: 3, epochs: 4", "finetune: {steps: 3,", "given"),
        ("backbones: [unet]", "backbones: [unet, vnet]", "backbones:", "no backbone 'vnet'"),
        ('["1 scans"]', '["1 scans", "many"]', "budgets:", "'many' is not a label budget"),
        ('["1 scans"]', '["1 scans", "1 scan"]', "budgets:", "is listed twice"),
        ("seeds: [0, 1]", "seeds: [0, -1]", "seeds:", "-1 is below 0"),
        ("seeds: [0, 1]", "seeds: []", "seeds:", "expected a list"),
        ("baseline: scratch", "baseline: scrach", "baseline:", "no method 'scrach'"),
        ("images: images", "images: imags", "imags", "does not exist"),
        ("size: 32\n    fractions", "size: 8\n    fractions", "size: 8", "hold no anatomy"),
        ("target: [liver=6]\n    size", "target: [liver6]\n    size", "target: [liver6]", "liver6"),
        ("away/labels, target: [liver=6]", "away/labels, target: [spleen=1]", "away: {data", "'spleen' is none of"),
        ("scratch: {}", "scratch: {transductive: true}", "scratch: {tr", "without pretrain"),
        (
            "polycl: {pretrain: {method: polycl-s}}",
            "polycl:\n    pretrain: {method: classify}\n    transductive: true",
            "transductive:",
            "classify uses image-level labels made from masks, here those of test patients",
        ),
        (
            "method: polycl-s}}",
            "method: polycl-s, queue_size: 9}}",
            "polycl: {",
            "queue_size: is not used by polycl-s",
        ),
        (
            "pretrain: {steps: 2,",
            "pretrain: {steps: 2, queue_size: 9,",
            "pretrain: {st",
            "is not used by any of the plan's",
        ),
        ("method: polycl-s}}", "method: polycl-s, norm: batch}}", "polycl: {", "norm batch and fine-tuned with"),
        ("scratch: {}", "scratch: {finetune: {norm: instance}, backbones: [transunet]}", "scratch: {", "not among"),
        (
            "method: polycl-s}}",
            "method: polycl-s, norm: instance_affine}, finetune: {preset: paper}}",
            "polycl: {",
            "pre-trained with norm instance_affine and fine-tuned with norm instance",
        ),
        ("scratch: {}", "scratch: {finetune: {weights: no.npz}}", "no.npz", "does not exist"),
        ("lr: 0.001", "device: tpu", "device: tpu", "device: 'tpu' is unknown"),
        ("lr: 0.001", "semi: mean-teacher, batch_size: 1", "semi: mean", "batch_size: 1 is too small for"),
        ("lr: 0.001", "rounds: 2", "rounds: 2", "rounds: 2 applies to self-training only"),
        ("lr: 0.001", "context: 1", "context: 1", "context: 1: the encoder was pre-trained with 0"),
        ("finetune: {steps: 2,", "finetune: {steps: 2, rounds: 2,", "scratch: {}", "scratch: rounds 2 applies to"),
        (
            'finetune: {steps: 2, batch_size: 4, device: cpu, precision: "32"}',
            "finetune: {preset: best, batch_size: 1}",
            "scratch: {}",
            "scratch: batch_size 1 is too small for",
        ),
    ],
)
def test_every_slip_is_named_with_its_line(folder, old, new, part, said):
    text = changed((old, new))
    with pytest.raises(OptionError, match=said) as raised:
        read(folder, text)
    assert f"plan.yaml, line {line_of(text, part)}:" in raised.value.problem


def test_missing_parts(folder):
    with pytest.raises(OptionError, match="budgets: is missing"):
        read(folder, changed(('budgets: ["1 scans"]\n', "")))
    with pytest.raises(OptionError, match="none.yaml does not exist"):
        read_plan(folder / "none.yaml")


def test_a_method_s_own_length_takes_the_place_of_the_shared_one(folder):
    plan = read(folder, changed(("lr: 0.001", "epochs: 3")))
    assert plan.methods[2].training.values == {"batch_size": 4, "device": "cpu", "precision": "32", "epochs": 3}


def test_shared_options_reach_the_methods_that_read_them(folder):
    text = changed(
        ("pretrain: {steps: 2", "pretrain: {momentum: 0.99, min_distance_mm: 3, steps: 2"),
        ("again:\n    pretrain: {method: polycl-s}", "again:\n    pretrain: {method: moco}"),
    )
    _, polycl, moco = read(folder, text).methods
    assert (polycl.pretrain["min_distance_mm"], moco.pretrain["momentum"]) == (3.0, 0.99)
    assert "momentum" not in polycl.pretrain
    assert "min_distance_mm" not in moco.pretrain
    resolved = folder / "resolved.yaml"
    resolved.write_text(yaml.safe_dump(read(folder, text).to_values()))
    assert read_plan(resolved).to_values() == read(folder, text).to_values()


def test_a_test_set_may_bring_its_own_scans(folder):
    text = changed(
        (
            "  away: {data: away, millimetres: false}",
            "  own: {images: away/images, labels: away/labels, target: liver=6}",
        )
    )
    test = read(folder, text).tests[1]
    assert (test.data, test.patients, test.in_domain) == ("own", "all", False)


def test_phantoms_need_no_files(tmp_path):
    plan = tiny_plan(
        tmp_path,
        (
            "    images: images\n    labels: labels\n    target: [liver=6]\n",
            "    phantoms: 5\n    grid: [32, 32, 16]\n",
        ),
    )
    assert (plan.data["tiny"].phantoms, plan.data["tiny"].grid) == (5, (32, 32, 16))
    resolved = tmp_path / "resolved.yaml"
    resolved.write_text(yaml.safe_dump(plan.to_values()))
    assert read_plan(resolved).data == plan.data


def test_published_weights_need_a_backbone_that_has_some(folder):
    (folder / "weights.safetensors").touch()
    text = changed(("scratch: {}", "scratch: {finetune: {weights: weights.safetensors}}"))
    with pytest.raises(OptionError, match=r"line 18: methods.scratch: there are no published weights for unet"):
        read(folder, text)
    plan = read(folder, text.replace("[unet]", "[resnet18-unet]"))
    assert plan.methods[0].training.values["weights"] == folder / "weights.safetensors"
    assert "from the published weights weights.safetensors" in plan.methods[0].note


def test_pre_training_elsewhere_needs_the_same_intensities(folder):
    elsewhere = ("method: polycl-s}}", "method: polycl-s, data: away}}")
    assert read(folder, changed(elsewhere)).methods[1].pretrain_data == "away"
    text = changed(elsewhere, ("labels: away/labels,", "labels: away/labels, window: [0, 100],"))
    with pytest.raises(OptionError, match=r"away is scaled by ct 0…100, tiny by ct -160…240"):
        read(folder, text)


def test_a_missing_environment_variable_is_named_with_its_line(monkeypatch):
    monkeypatch.delenv("LITS", raising=False)
    with pytest.raises(OptionError, match=r"polycl-tables.yaml, line \d+: data.lits.images: .* LITS is not set"):
        read_plan(SHIPPED_PLANS / "polycl-tables.yaml", "methods")


SHIPPED = [
    (path, study)
    for path in sorted(SHIPPED_PLANS.glob("*.yaml"))
    for study in yaml.safe_load(path.read_text(encoding="utf-8")).get("studies", [None])
]


@pytest.mark.parametrize(("path", "study"), SHIPPED, ids=lambda value: getattr(value, "name", value))
def test_the_plans_that_are_shipped(path, study, shared_data, tmp_path, monkeypatch):
    for name in re.findall(r"\$\{(\w+)\}", path.read_text(encoding="utf-8")):
        for part in ("images", "labels", "LiTS", "TotalSegmentator", "MSD"):
            (tmp_path / name / part).mkdir(parents=True, exist_ok=True)
        (tmp_path / name / "resnet18.safetensors").touch()
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setattr("frugalseg.promptable.load.find_weights", Path)  # as if they all were here
    plan = read_plan(path, study)
    assert plan.name == " ".join([path.stem, *([study] if study else [])])
    (baseline,) = (method for method in plan.methods if method.name == plan.baseline)
    assert set(baseline.backbones) in (set(plan.backbones), {baseline.backbones[0]}), "nothing to compare with"


SEVERAL = """
studies:
  small:
    budgets: ["1 scans"]
  large:
    budgets: ["2 scans"]
    seeds: [3, 4]
"""


def test_a_file_of_several_studies_gives_the_selected_one(folder):
    path = write_plan(folder, PLAN + SEVERAL, scans=False)
    small, large = (read_plan(path, name) for name in ("small", "large"))
    assert (small.budgets, large.budgets) == (("1 scans",), ("2 scans",))
    assert large.seeds == (3, 4)
    assert [m.name for m in small.methods] == [m.name for m in large.methods] == ["scratch", "polycl", "polycl again"]
    with pytest.raises(OptionError, match="several studies: small, large"):
        read_plan(path)
    with pytest.raises(OptionError, match="no study 'huge'"):
        read_plan(path, "huge")
    with pytest.raises(OptionError, match="holds one study"):
        read_plan(write_plan(folder, PLAN, scans=False), "small")


def test_a_slip_in_the_chosen_study_is_named_with_its_line(folder):
    text = PLAN + SEVERAL.replace("seeds: [3, 4]", "seeds: [3, 3]")
    with pytest.raises(OptionError, match=f"line {line_of(text, 'seeds: [3, 3]')}: studies.large.seeds"):
        read_plan(write_plan(folder, text, scans=False), "large")


def test_superpixels_that_no_data_set_has_are_missed_before_anything_runs(folder):
    text = changed(("method: polycl-s", "method: supercl"))
    with pytest.raises(OptionError, match=r"learns from superpixels, and tiny has none") as error:
        read(folder, text)
    assert "superpixels: true to data.tiny" in error.value.cure
    assert read(folder, changed(("method: polycl-s", "method: supercl, superpixels: online")))


def test_a_method_may_stand_at_some_of_the_budgets(folder):
    text = changed(('["1 scans"]', '["1 scans", "2 scans"]'), ("scratch: {}", 'scratch: {budgets: ["2 scan"]}'))
    plan = read(folder, text)
    assert [method.budgets for method in plan.methods] == [("2 scans",), ("1 scans", "2 scans"), ("1 scans", "2 scans")]
    path = folder / "resolved.yaml"
    path.write_text(yaml.safe_dump(plan.to_values(), sort_keys=False))
    assert read_plan(path).to_values() == plan.to_values()
    with pytest.raises(OptionError, match="9 scans is not among its budgets"):
        read(folder, text.replace("2 scan]", "9 scan]").replace('"2 scan"', '"9 scan"'))


def test_a_note_tells_whose_recipe_a_method_has(folder):
    text = changed(("method: polycl-s}}", "method: simclr, recipe: polycl-m}}"))
    notes = [method.note for method in read(folder, text).methods]
    assert "pre-trained by simclr with the recipe of polycl-m on the training" in notes[1]
    assert "pre-trained by polycl-s on the training" in notes[2]


def test_a_frozen_encoder_is_a_backbone_of_fine_tuning_alone(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("FRUGALSEG_HOME", str(tmp_path))
    here = ("backbones: [unet]", "backbones: [unet, litemedsam]")
    with pytest.raises(OptionError, match="the weights litemedsam are not installed"):
        read_plan(write_plan(folder, changed(here), scans=False))
    monkeypatch.setattr("frugalseg.studies.plan.method_parts.installed_path", lambda name: tmp_path / name)
    with pytest.raises(OptionError, match="litemedsam is a frozen encoder with weights of its own"):
        read_plan(write_plan(folder, changed(here), scans=False))
    unet = ("{pretrain: {method: polycl-s}}", "{pretrain: {method: polycl-s}, backbones: [unet]}")
    again = ("  polycl again:\n", "  polycl again:\n    backbones: [unet]\n")
    plan = read_plan(write_plan(folder, changed(here, unet, again), scans=False))
    assert plan.methods[0].backbones == ("unet", "litemedsam")
    assert plan.methods[0].choose_norms("litemedsam") == ("batch", "batch")
    copies = ("scratch: {}", "scratch: {finetune: {copies: 2}}")
    with pytest.raises(OptionError, match="copies are for frozen encoders, unet is none"):
        read_plan(write_plan(folder, changed(here, unet, again, copies), scans=False))


def test_values_that_yaml_reads_as_something_else_are_taken_as_written(folder):
    text = changed(('device: cpu, precision: "32"}', "device: cpu, precision: 32}"), ("scratch", "on"))
    plan = read(folder, text)
    assert plan.methods[0].training.values["precision"] == plan.methods[1].pretrain["precision"] == "32"
    assert plan.baseline == "on"


def test_series_are_chosen_by_the_data_set_alone(folder):
    refined = ("scratch: {}", "scratch: {}\n  refined: {of: scratch, refine: {series: [thinnest]}}")
    with pytest.raises(OptionError, match=r"series: is set by the study\n.*give it to the data set"):
        read(folder, changed(refined))
    away = ("away/labels, target", "away/labels, series: [thinnest], target")
    assert read(folder, changed(away)).data["away"].options.series == ["thinnest"]
