"""The whole way through the command line, on tiny scans: commands, files, exit codes, resumption, bad input."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file

from frugalseg import finetune, predict
from frugalseg.cli import main
from frugalseg.options import FinetuneOptions, PredictOptions
from tests.scans import tiny_scan, write_cohort

SIZE = 32


def frugalseg(command, *values, **options) -> int:
    """Run one command; `out=x, size=32` are written as `--out x --size 32`."""
    flags = [text for name, value in options.items() for text in (f"--{name.replace('_', '-')}", *listed(value))]
    return main([command, *map(str, [*values, *flags])])


def listed(value):
    return value if isinstance(value, list) else [value]


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


@pytest.fixture(scope="module")
def way(tmp_path_factory):
    """A folder in which every command has run once, on ten scans of which eight are labelled."""
    root = tmp_path_factory.mktemp("way")
    images, labels = write_cohort(root, 10, labelled=8)
    store, target, exact = root / "store", ["liver=6", "spleen=1"], {"device": "cpu", "precision": 32}
    done = [
        frugalseg("prepare", images=images, labels=labels, target=target, size=SIZE, out=store),
        frugalseg("pretrain", data=store, method="polycl-m", epochs=2, out=root / "pre", **exact),
        frugalseg("finetune", data=store, encoder=root / "pre", budget="3 scans", steps=80, out=root / "fit", **exact),
        frugalseg("predict", model=root / "fit", images=images, out=root / "pred", **exact),
        frugalseg("evaluate", predictions=root / "pred", references=labels, target=target, out=root / "eval"),
    ]
    assert done == [0] * 5
    return root


def test_masks_are_good_in_the_users_values_on_the_scans_grid(way):
    for i in (0, 9):
        _, reference = tiny_scan(i)
        mask = nib.load(way / "pred" / f"scan_{i:02d}.nii.gz")
        scan = nib.load(way / "images" / f"scan_{i:02d}.nii.gz")
        assert mask.shape == scan.shape
        assert np.array_equal(mask.affine, scan.affine)
        values = np.asarray(mask.dataobj)
        assert set(np.unique(values)) <= {0, 1, 6}
        assert dice(values == 6, reference == 6) > 0.85


def test_run_folders_hold_what_they_promise(way):
    for run in ("pre", "fit"):
        names = {p.name for p in (way / run).iterdir()}
        assert {"config.yaml", "environment.json", "metrics.jsonl", "checkpoints", "model.json"} <= names
        assert yaml.safe_load((way / run / "config.yaml").read_text())["seed"] == 0
        assert all("loss" in json.loads(line) for line in (way / run / "metrics.jsonl").read_text().splitlines())
    spec = json.loads((way / "fit" / "model.json").read_text())
    assert set(spec["keep"]) == {"liver", "spleen"}
    assert spec["annotation"]["mask_scans"] == 3


def test_annotation_used_is_recorded_honestly(way):
    pre = json.loads((way / "pre" / "model.json").read_text())["annotation"]
    split = json.loads((way / "store" / "split.json").read_text())
    labelled_training = [p for p in split["train"] if int(p[-2:]) < 8]
    assert pre == {
        "masks": 0,
        "organ_present_labels": 12 * len(labelled_training),
        "scans_seen": len(labelled_training),
    }


def test_roles_follow_what_the_model_saw(way):
    roles = json.loads((way / "pred" / "predictions.json").read_text())["roles"]
    split = json.loads((way / "store" / "split.json").read_text())
    assert {roles[p] for p in split["test"]} == {"test"}
    assert {roles[p] for p in split["validation"]} == {"validation"}
    assert sum(roles[p] == "train" for p in split["train"]) == 3
    # polycl-m cannot use scans without masks, so those are not called seen.
    assert {roles[p] for p in split["train"] if p < "scan_08"} == {"train", "pretrain"}
    assert {roles[p] for p in split["train"] if p >= "scan_08"} == {"unused"}


def test_a_renamed_training_scan_is_still_known_as_one(way, tmp_path):
    roles = json.loads((way / "pred" / "predictions.json").read_text())["roles"]
    trained = next(case for case, role in roles.items() if role == "train")
    shutil.copy(way / "images" / f"{trained}.nii.gz", tmp_path / "fresh_patient.nii.gz")
    (tmp_path / "out").mkdir()
    assert frugalseg("predict", model=way / "fit", images=tmp_path, out=tmp_path / "out") == 0
    assert json.loads((tmp_path / "out" / "predictions.json").read_text())["roles"] == {"fresh_patient": "train"}


def test_a_changed_training_scan_of_the_same_name_is_not_called_new(way, tmp_path):
    roles = json.loads((way / "pred" / "predictions.json").read_text())["roles"]
    trained = next(case for case, role in roles.items() if role == "train")
    scan = nib.load(way / "images" / f"{trained}.nii.gz")
    nib.save(nib.Nifti1Image(np.asarray(scan.dataobj) + 1, scan.affine), tmp_path / f"{trained}.nii.gz")
    with pytest.warns(UserWarning, match="other voxels"):
        predict(PredictOptions(model=way / "fit", images=tmp_path, out=tmp_path / "out"))
    assert json.loads((tmp_path / "out" / "predictions.json").read_text())["roles"] == {trained: "train"}


def test_prediction_needs_no_reference_and_flips_change_little(way, tmp_path):
    scan = tmp_path / "alone.nii.gz"
    shutil.copy(way / "images" / "scan_09.nii.gz", scan)
    assert frugalseg("predict", model=way / "fit", images=scan, out=tmp_path / "a") == 0
    assert frugalseg("predict", "--tta", model=way / "fit", images=scan, out=tmp_path / "b") == 0
    plain, flipped = (np.asarray(nib.load(tmp_path / n / "alone.nii.gz").dataobj) for n in "ab")
    assert 0.5 < dice(plain == 6, flipped == 6) <= 1


def test_corrupt_scan_among_others_is_reported_and_the_others_done(way, tmp_path, capsys):
    scans = tmp_path / "scans"
    shutil.copytree(way / "images", scans)
    broken = scans / "scan_03.nii.gz"
    broken.write_bytes(broken.read_bytes()[:2000])
    assert frugalseg("predict", model=way / "fit", images=scans, out=tmp_path / "out") == 1
    message = capsys.readouterr().err
    assert "1 of 10 scans not segmented" in message
    assert "scan_03" in message
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == 9
    note = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert list(note["failed"]) == ["scan_03"]


def test_used_folders_are_refused(way, capsys):
    before = (way / "fit" / "metrics.jsonl").read_bytes()
    assert frugalseg("finetune", data=way / "store", steps=5, out=way / "fit") == 1
    assert "holds a finished run" in capsys.readouterr().err
    assert frugalseg("predict", model=way / "fit", images=way / "images", out=way / "pred") == 1
    assert "in use" in capsys.readouterr().err
    assert (way / "fit" / "metrics.jsonl").read_bytes() == before


def test_a_mask_never_overwrites_its_scan(way, tmp_path, capsys):
    shutil.copy(way / "images" / "scan_00.nii.gz", tmp_path)
    before = (tmp_path / "scan_00.nii.gz").read_bytes()
    assert frugalseg("predict", "--overwrite", model=way / "fit", images=tmp_path, out=tmp_path) == 1
    assert "would overwrite the scan" in capsys.readouterr().err
    assert (tmp_path / "scan_00.nii.gz").read_bytes() == before


def test_demo_never_deletes_what_it_did_not_make(way, tmp_path, capsys):
    scans = tmp_path / "scans"
    shutil.copytree(way / "images", scans / "images")
    shutil.copytree(way / "labels", scans / "labels")
    given = {"images": scans / "images", "labels": scans / "labels", "target": "liver=6", "out": tmp_path}
    assert frugalseg("demo", "--overwrite", **given) == 1
    assert "not the folder of a demo" in capsys.readouterr().err
    (tmp_path / ".frugalseg-demo").write_text("{}")
    assert frugalseg("demo", "--overwrite", **given) == 1
    assert "would be overwritten" in capsys.readouterr().err
    assert len(list((scans / "images").iterdir())) == 10


def test_a_refused_start_leaves_the_folder_free(way, tmp_path, capsys):
    assert frugalseg("finetune", data=way / "store", budget="30 scans", out=tmp_path / "o") == 1
    assert "there are only" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_resume_takes_relative_and_absolute_paths_for_one(way, tmp_path, monkeypatch):
    monkeypatch.chdir(way)
    assert frugalseg("finetune", data="store", steps=2, out=tmp_path / "o") == 0
    assert frugalseg("finetune", "--resume", data=way / "store", steps=2, out=tmp_path / "o") == 0


def test_a_run_goes_on_where_it_and_its_data_have_moved(way, tmp_path, capsys):
    """Paths may be others, what lies there may not."""
    old, new = tmp_path / "old", tmp_path / "new"
    shutil.copytree(way / "store", old / "store")
    assert frugalseg("pretrain", data=old / "store", steps=2, out=old / "pre") == 0
    assert frugalseg("finetune", data=old / "store", encoder=old / "pre", steps=2, out=old / "o") == 0
    old.rename(new)
    (new / "o" / "model.json").unlink()
    again = {"data": new / "store", "encoder": new / "pre", "steps": 2, "out": new / "o"}
    assert frugalseg("finetune", "--resume", **again) == 0
    assert (new / "o" / "model.json").is_file()

    assert frugalseg("pretrain", data=new / "store", steps=2, seed=1, out=new / "other") == 0
    capsys.readouterr()
    assert frugalseg("finetune", "--resume", **again | {"encoder": new / "other"}) == 1
    assert "other data (changed: encoder_sha256)" in capsys.readouterr().err


def test_resume_on_another_split_is_refused(way, tmp_path, capsys):
    split = json.loads((way / "store" / "split.json").read_text())
    path = tmp_path / "split.json"
    path.write_text(json.dumps(split))
    assert frugalseg("finetune", data=way / "store", split=path, steps=2, out=tmp_path / "o") == 0
    split["train"], split["test"] = split["train"][1:], [*split["test"], split["train"][0]]
    path.write_text(json.dumps(split))
    assert frugalseg("finetune", "--resume", data=way / "store", split=path, steps=2, out=tmp_path / "o") == 1
    assert "other data (changed: split_sha256)" in capsys.readouterr().err


def test_batch_norm_encoder_is_fine_tuned_with_its_own_norm(way, tmp_path, capsys):
    store = way / "store"
    assert frugalseg("pretrain", data=store, norm="batch", steps=2, out=tmp_path / "pre") == 0
    assert frugalseg("finetune", data=store, encoder=tmp_path / "pre", steps=2, out=tmp_path / "o") == 1
    assert "--norm" in capsys.readouterr().err
    assert frugalseg("finetune", data=store, encoder=tmp_path / "pre", norm="batch", steps=2, out=tmp_path / "o") == 0


def test_a_scan_that_only_the_encoder_saw_is_not_called_new(way, tmp_path):
    """Pre-trained on one store, fine-tuned on another: predictions on the first are no unseen scans."""
    images, labels = write_cohort(tmp_path / "other", 3)
    for folder in (images, labels):
        for path in folder.iterdir():
            image = nib.load(path)
            nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[::-1], image.affine), folder / f"mirror_{path.name}")
            path.unlink()
    store = tmp_path / "store"
    assert frugalseg("prepare", images=images, labels=labels, target="liver=6", size=SIZE, out=store) == 0
    assert frugalseg("finetune", data=store, encoder=way / "pre", steps=2, out=tmp_path / "fit") == 0
    assert frugalseg("predict", model=tmp_path / "fit", images=way / "images", out=tmp_path / "pred") == 0
    roles = json.loads((tmp_path / "pred" / "predictions.json").read_text())["roles"]
    split = json.loads((way / "store" / "split.json").read_text())
    assert {roles[p] for p in split["train"] if p < "scan_08"} == {"pretrain"}
    assert {roles[p] for p in split["test"]} == {"new"}


def test_wrong_kind_of_folder_is_named(way, tmp_path, capsys):
    assert frugalseg("predict", model=way / "pre", images=way / "images", out=tmp_path / "o") == 1
    assert "kind 'encoder'" in capsys.readouterr().err
    assert frugalseg("finetune", data=way / "store", encoder=way / "fit", out=tmp_path / "o") == 1
    assert "kind 'segmenter'" in capsys.readouterr().err
    assert frugalseg("predict", model=tmp_path / "none", images=way / "images", out=tmp_path / "o") == 1
    assert "no trained model" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_encoder_that_saw_held_out_patients_is_refused(way, tmp_path, capsys):
    split = json.loads((way / "store" / "split.json").read_text())
    swapped = {
        "train": [*split["test"], *split["train"][1:]],
        "validation": split["validation"],
        "test": split["train"][:1],
    }
    (tmp_path / "swapped.json").write_text(json.dumps(swapped))
    split_file = tmp_path / "swapped.json"
    code = frugalseg("finetune", data=way / "store", encoder=way / "pre", split=split_file, out=tmp_path / "o")
    assert code == 1
    assert f"held out here: {split['train'][0]}" in capsys.readouterr().err


def test_an_encoder_that_saw_held_out_scans_is_let_in_only_where_it_knows_no_label_of_them(way, tmp_path, capsys):
    everyone = tmp_path / "everyone.json"
    everyone.write_text(json.dumps({"train": [f"scan_{i:02d}" for i in range(10)]}))
    tried = {}
    for method in ("polycl-s", "polycl-m"):
        out = tmp_path / method
        assert frugalseg("pretrain", data=way / "store", split=everyone, method=method, steps=1, out=out) == 0
        fit = {"data": way / "store", "encoder": out, "steps": 1, "out": tmp_path / f"{method}-fit"}
        assert frugalseg("finetune", **fit) == 1
        tried[method] = frugalseg("finetune", "--transductive", **fit)
    assert tried == {"polycl-s": 0, "polycl-m": 1}
    assert "was trained on image-level labels of theirs" in capsys.readouterr().err
    spec = json.loads((tmp_path / "polycl-s-fit" / "model.json").read_text())
    assert "test" not in {scan["role"] for scan in spec["scans"]}


def test_finetune_without_validation_patients_says_so(way, tmp_path):
    split = {"train": [f"scan_{i:02d}" for i in range(8)]}
    (tmp_path / "split.json").write_text(json.dumps(split))
    options = FinetuneOptions(
        data=way / "store", split=tmp_path / "split.json", steps=2, device="cpu", out=tmp_path / "o"
    )
    with pytest.warns(UserWarning, match="no validation patient"):
        finetune(options)
    assert json.loads((tmp_path / "o" / "model.json").read_text())["keep"] == {"liver": "all", "spleen": "all"}


@pytest.mark.parametrize(
    "way_of_training",
    [["robust"], ["paper"], ["supercl"], ["robust", "--semi", "mean-teacher"], ["best", "--rounds", "1"]],
)
def test_fine_tuning_killed_in_mid_epoch_and_resumed_gives_the_same_bits(way, tmp_path, way_of_training):
    """SIGKILL, not a simulated one; augmentation, dropout, schedule, averages and rounds all have to go on where they
    were."""
    command = [sys.executable, "-m", "frugalseg", "finetune", "--data", str(way / "store"), "--budget", "3 scans"]
    command += ["--steps", "14", "--preset", *way_of_training, "--device", "cpu", "--checkpoint-minutes", "0.00001"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    subprocess.run([*command, "--out", whole], check=True, capture_output=True)
    process = subprocess.Popen([*command, "--out", broken], stderr=subprocess.DEVNULL)
    deadline = time.time() + 120
    watched = broken / "rounds" / "0" if "best" in way_of_training else broken
    while len(records(watched)) < 5 and process.poll() is None and time.time() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (broken / "model.json").exists()
    refused = subprocess.run([*command, "--out", broken], capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "--resume" in refused.stderr
    subprocess.run([*command, "--out", broken, "--resume"], check=True, capture_output=True)
    one, other = load_file(whole / "model.safetensors"), load_file(broken / "model.safetensors")
    assert one.keys() == other.keys()
    assert all(np.array_equal(one[name], other[name]) for name in one)
    assert [r["loss"] for r in records(whole)] == [r["loss"] for r in records(broken)]


def records(run: Path):
    metrics = run / "metrics.jsonl"
    lines = metrics.read_text().splitlines(keepends=True) if metrics.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def test_neighbouring_slices_go_with_the_model_from_pre_training_to_prediction(way, tmp_path, capsys):
    data, exact = way / "store", {"device": "cpu", "precision": 32}
    assert frugalseg("pretrain", data=data, method="simclr", steps=2, context=1, out=tmp_path / "pre", **exact) == 0
    fit = {"data": data, "encoder": tmp_path / "pre", "budget": "3 scans", **exact}
    assert frugalseg("finetune", context=2, steps=2, out=tmp_path / "no", **fit) == 1
    assert "pre-trained with 1" in capsys.readouterr().err
    assert frugalseg("finetune", backbone="resunet", steps=2, out=tmp_path / "no", **fit) == 1
    assert "--backbone resunet: the encoder is one of unet" in capsys.readouterr().err
    assert frugalseg("finetune", steps=60, out=tmp_path / "fit", **fit) == 0
    assert json.loads((tmp_path / "fit" / "model.json").read_text())["context"] == 1
    one = way / "images" / "scan_09.nii.gz"
    for batch, out in ((3, "a"), (100, "b")):
        done = frugalseg("predict", model=tmp_path / "fit", images=one, batch_size=batch, out=tmp_path / out, **exact)
        assert done == 0
    masks = [np.asarray(nib.load(tmp_path / out / "scan_09.nii.gz").dataobj) for out in "ab"]
    assert np.array_equal(*masks)
    assert dice(masks[0] == 6, tiny_scan(9)[1] == 6) > 0.7


def test_self_training_leaves_every_round_and_counts_what_it_saw(way, tmp_path):
    options = {"data": way / "store", "budget": "1 scan", "steps": 20, "device": "cpu", "out": tmp_path / "o"}
    assert frugalseg("finetune", semi="self-training", rounds=2, **options) == 0
    spec = [json.loads((run / "model.json").read_text()) for run in (tmp_path / "o" / "rounds" / "0", tmp_path / "o")]
    assert [s["annotation"]["masks"] for s in spec] == [12, 12]
    assert spec[0]["annotation"]["unlabelled_scans"] == 0
    assert spec[1]["annotation"]["unlabelled_scans"] > 3
    roles = [{scan["case"]: scan["role"] for scan in s["scans"]} for s in spec]
    assert sorted(roles[0].values()).count("unused") == sorted(roles[1].values()).count("pretrain") > 3
    assert sorted(roles[0].values()).count("test") == sorted(roles[1].values()).count("test") > 0
    assert (tmp_path / "o" / "rounds" / "1" / "model.json").exists()


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--rounds", "2"], "--semi self-training"),
        (["--semi", "mean-teacher", "--rounds", "2"], "self-training only"),
        (["--weights", "nowhere.pth"], "--weights"),
        (["--context", "-1"], "--context -1"),
        (["--semi", "mean-teacher", "--batch-size", "1"], "too small for unlabelled"),
    ],
)
def test_fine_tuning_options_that_do_not_go_together(way, tmp_path, capsys, flags, told):
    assert frugalseg("finetune", "--data", way / "store", "--out", tmp_path / "o", *flags) in (1, 2)
    assert told in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_store_without_labels_cannot_be_fine_tuned(way, tmp_path, capsys):
    store, out = tmp_path / "store", tmp_path / "o"
    assert frugalseg("prepare", images=way / "images", size=SIZE, out=store) == 0
    assert frugalseg("finetune", data=store, out=out) == 1
    assert "no labels" in capsys.readouterr().err
    assert frugalseg("pretrain", data=store, method="polycl-m", out=out) == 1
    assert "polycl-s" in capsys.readouterr().err
    assert frugalseg("pretrain", data=store, method="polycl-s", steps=2, augment="light", out=out) == 0


def test_evaluation_keeps_seen_and_unseen_apart(way):
    summary = json.loads((way / "eval" / "summary.json").read_text())
    split = json.loads((way / "store" / "split.json").read_text())
    assert summary["headline"] == "unseen"
    assert summary["groups"]["unseen"]["cases"] == sorted(split["test"])
    assert sorted(summary["no_reference"]) == ["scan_08", "scan_09"]
    assert summary["groups"]["unseen"]["organs"]["liver"]["metrics"]["dice"]["mean"] > 0.8
    report = (way / "eval" / "report.html").read_text()
    assert "polycl-m" in report
    assert "http://" not in report.replace("http://www.w3.org", "")


def test_the_config_of_a_run_gives_the_same_model_from_another_folder(way, tmp_path, monkeypatch):
    monkeypatch.chdir(way)
    shutil.copy(way / "store" / "split.json", tmp_path / "split.json")
    given = {"data": "store", "encoder": "pre", "split": os.path.relpath(tmp_path / "split.json"), "steps": 2}
    assert frugalseg("finetune", out=tmp_path / "a", device="cpu", **given) == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert frugalseg("finetune", config="../a/config.yaml", out="again") == 0
    models = [(run / "model.safetensors").read_bytes() for run in (tmp_path / "a", Path("again"))]
    assert models[0] == models[1]
    assert main(["finetune", "--config", "../a/config.yaml", "--resume"]) == 0  # and names the run it belongs to


def test_best_without_anything_unlabelled_says_so_and_is_robust(tmp_path, capsys):
    """Every training patient's scan has a mask here, and the budget is all of them."""
    store, exact = tmp_path / "store", {"device": "cpu", "steps": 2, "seed": 1}
    images, labels = write_cohort(tmp_path, 4)
    assert frugalseg("prepare", images=images, labels=labels, target="liver=6", size=SIZE, out=store) == 0
    assert frugalseg("finetune", data=store, preset="best", rounds=2, out=tmp_path / "a", **exact) == 0
    said = capsys.readouterr().err
    assert "nothing unlabelled to learn from; training with --preset robust" in said
    assert "round 0" not in said
    assert frugalseg("finetune", data=store, preset="robust", out=tmp_path / "b", **exact) == 0
    models = [(tmp_path / name / "model.safetensors").read_bytes() for name in "ab"]
    assert models[0] == models[1]
    assert yaml.safe_load((tmp_path / "a" / "config.yaml").read_text())["preset"] == "robust"
    assert main(["finetune", "--data", str(store), "--preset", "best", "--out", str(tmp_path / "a"), "--resume"]) == 1
    again = ["--steps", "2", "--seed", "1", "--device", "cpu", "--resume"]
    assert main(["finetune", "--data", str(store), "--preset", "best", "--out", str(tmp_path / "a"), *again]) == 0
