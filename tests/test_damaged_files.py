"""Files of our own that are damaged: every command that reads one names it, and nothing else happens."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from frugalseg.cli import main
from frugalseg.dataset.source import SliceSource
from frugalseg.dataset.store import SliceStore
from frugalseg.engine.checkpoint import load_checkpoint, save_checkpoint
from frugalseg.errors import FrugalsegError
from frugalseg.models.saved import read_network_record
from frugalseg.options import PredictOptions
from frugalseg.records.networks import EncoderRecord
from frugalseg.segmentation.predict import Predictor
from frugalseg.weights.folder import find_installed
from tests.scans import write_cohort
from tests.studies.plans import PLAN, write_plan

LARGE = {".ckpt", ".safetensors", ".npy"}


def run(command: str, **options: object) -> int:
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    return main([*command.split(), *flags])


def link_large(source: str, target: str) -> None:
    (os.link if Path(source).suffix in LARGE else shutil.copy2)(source, target)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A store, an encoder, a model, one that was interrupted, masks, and weights."""
    root = tmp_path_factory.mktemp("whole")
    write_cohort(root, 6, shape=(32, 32, 4))
    exact = {"data": root / "store", "device": "cpu", "precision": 32, "batch_size": 4, "steps": 1}
    assert not run(
        "prepare", images=root / "images", labels=root / "labels", target="liver=6", size=32, out=root / "store"
    )
    assert not run("pretrain", method="polycl-s", out=root / "pre", **exact)
    assert not run("finetune", encoder=root / "pre", budget="1 scans", out=root / "fit", **exact)
    assert not run("predict", model=root / "fit", images=root / "images", device="cpu", out=root / "pred")
    shutil.copytree(root / "fit", root / "half", copy_function=link_large)
    (root / "half" / "model.json").unlink()
    weights = root / "home" / "weights" / "mine"
    weights.mkdir(parents=True)
    save_file({"w": torch.ones(3)}, weights / "mine.safetensors")
    told = {"bytes": 1, "sha256": "0" * 64, "source": "", "licence": "", "checked": False}
    (weights / "origin.json").write_text(json.dumps({"file": "mine.safetensors", **told}))
    return root


@pytest.fixture
def way(whole, tmp_path, monkeypatch):
    """A copy of it to damage."""
    root = tmp_path / "way"
    shutil.copytree(whole, root, copy_function=link_large)
    monkeypatch.setenv("FRUGALSEG_HOME", str(root / "home"))
    return root


def finetune(root: Path, **more: object) -> int:
    given = {"data": root / "store", "encoder": root / "pre", "budget": "1 scans", "out": root / "new"}
    exact = {"device": "cpu", "precision": 32, "batch_size": 4, "steps": 1}
    return run("finetune", **given | exact | more)


COMMANDS = {
    "prepare": lambda root: run(
        *("prepare",), images=root / "images", labels=root / "labels", target="liver=6", size=32, out=root / "store"
    ),
    "prepare superpixels": lambda root: run("prepare superpixels", data=root / "store"),
    "pretrain": lambda root: run(
        *("pretrain",), data=root / "store", method="polycl-s", steps=1, batch_size=4, device="cpu", out=root / "new"
    ),
    "finetune": finetune,
    "resume": lambda root: finetune(root, out=root / "half", resume="yes"),
    "predict": lambda root: run(
        *("predict",), model=root / "fit", images=root / "images", device="cpu", out=root / "new"
    ),
    "predict on": lambda root: run(
        *("predict",), model=root / "fit", images=root / "images", device="cpu", out=root / "pred", resume="yes"
    ),
    "evaluate": lambda root: run(
        *("evaluate",), predictions=root / "pred", references=root / "labels", target="liver=6", out=root / "new"
    ),
    "weights list": lambda root: run("weights list"),
    "weights verify": lambda root: run("weights verify"),
    "weights import": lambda root: run(
        *("weights import",), file=root / "home" / "weights" / "mine" / "mine.safetensors", name="other"
    ),
}

READERS = {
    "store/store.json": ["prepare", "prepare superpixels", "pretrain", "finetune", "resume"],
    "store/slices.parquet": ["prepare", "prepare superpixels", "pretrain", "finetune", "resume"],
    "store/split.json": ["pretrain", "finetune", "resume"],
    "store/images.npy": ["prepare", "prepare superpixels", "pretrain", "finetune"],
    "store/labels.npy": ["prepare", "finetune"],
    "pre/model.json": ["finetune"],
    "pre/model.safetensors": ["finetune"],
    "fit/model.json": ["predict", "predict on"],
    "fit/model.safetensors": ["predict"],
    "half/config.yaml": ["resume"],
    "half/environment.json": ["resume"],
    "half/checkpoints/last.ckpt": ["resume"],
    "half/metrics.jsonl": ["resume"],
    "pred/predictions.json": ["evaluate", "predict on"],
    "home/weights/mine/origin.json": ["weights list", "weights verify", "weights import"],
}

DAMAGES = {
    "empty": lambda content: b"",
    "zeros": lambda content: bytes(len(content)),
    "garbage": lambda content: np.random.default_rng(0).bytes(len(content)) + b"\n",
    "cut": lambda content: content[: len(content) // 2],
    "another's": lambda content: b'{"name": "package", "version": "1.0"}\n',
    "a list": lambda content: b"[1, 2, 3]\n",
}


def rewrite(path: Path, content: bytes) -> None:
    path.unlink()  # it may be linked
    path.write_bytes(content)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(("file", "command"), [(file, command) for file in READERS for command in READERS[file]])
def test_the_damaged_file_is_named(way, capsys, file, command, damage):
    path = way / file
    rewrite(path, DAMAGES[damage](path.read_bytes()))
    if path.name == "metrics.jsonl" and damage in ("empty", "cut", "zeros"):
        pytest.skip("what a kill cut off the end of metrics.jsonl is forgotten")
    before = {p: p.read_bytes() for p in way.rglob("*") if p.is_file() and p.suffix not in LARGE}
    assert COMMANDS[command](way) == 1
    told = capsys.readouterr().err
    # Half a config, or another program's file, may be whole and say something else: then the folder is named.
    assert str(path) in told or (damage in ("cut", "another's") and str(path.parent) in told)
    assert "→" in told
    assert {p: p.read_bytes() for p in before} == before
    assert not (way / "new").exists()


def leaves(content, path=()):
    """Where the values of JSON stand; of a list's only the first."""
    yield path
    if isinstance(content, dict):
        for key in content:
            yield from leaves(content[key], (*path, key))
    elif isinstance(content, list) and content:
        yield from leaves(content[0], (*path, 0))


WRONG = [None, -7, 10**9, 0.5, float("nan"), "x", [], {}, [[]], True]

USES = {
    "store/store.json": lambda root: SliceSource(SliceStore.open(root / "store"), torch.device("cpu"), True),
    "store/split.json": lambda root: SliceStore.open(root / "store").split(),
    "pre/model.json": lambda root: read_network_record(EncoderRecord, root / "pre"),
    "fit/model.json": lambda root: Predictor.load(
        PredictOptions(model=root / "fit", images=root / "images", out=root / "new", device="cpu")
    ),
    "home/weights/mine/origin.json": lambda root: find_installed(),
}


@pytest.mark.parametrize("file", USES)
def test_any_value_of_another_kind_is_an_error_that_names_the_file_or_does_no_harm(way, file):
    path = way / file
    content = json.loads(path.read_text())
    noticed = []
    for place in leaves(content):
        for wrong in [*WRONG, "left out"]:
            changed = copy.deepcopy(content)
            within = changed
            for key in place[:-1]:
                within = within[key]
            if not place:
                changed = wrong
            elif wrong == "left out":
                within.pop(place[-1])
            else:
                within[place[-1]] = wrong
            path.write_text(json.dumps(changed))
            try:
                USES[file](way)
            except FrugalsegError as error:
                noticed.append(error.problem)
    assert len(noticed) > 5
    assert not [problem for problem in noticed if not any(n in problem for n in (path.name, "format", "kind"))]


def test_labels_of_another_store_are_not_learned_from(way, capsys):
    images = {"images": way / "images", "labels": way / "labels", "size": 32}
    assert run("prepare", target="liver=1", out=way / "other", **images) == 0
    for array in ("images", "labels"):
        right = (way / "store" / f"{array}.npy").read_bytes()
        other = np.load(way / "other" / f"{array}.npy")[:: 1 if array == "labels" else -1]
        (way / "store" / f"{array}.npy").unlink()
        np.save(way / "store" / f"{array}.npy", other)
        assert finetune(way) == 1
        assert f"{array}.npy changed or belongs to another store" in capsys.readouterr().err
        rewrite(way / "store" / f"{array}.npy", right)
    np.save(way / "store" / "labels.npy", np.zeros((24, 64, 64), np.uint8))
    assert finetune(way) == 1
    assert "labels.npy belongs to another store: it holds (24, 64, 64)" in capsys.readouterr().err


def test_a_store_made_before_digests_is_read(way):
    path = way / "store" / "store.json"
    meta = json.loads(path.read_text())
    for scan in meta["scans"]:
        del scan["digests"]
    path.write_text(json.dumps(meta))
    assert finetune(way) == 0


@pytest.mark.parametrize("damage", ["shuffled", "one value", "a column less", "a row less", "other organs"])
def test_an_index_that_is_not_its_stores(way, capsys, damage):
    path = way / "store" / "slices.parquet"
    table = pd.read_parquet(path)
    changed = {
        "shuffled": lambda: table.sample(frac=1, random_state=0),
        "one value": lambda: table.assign(patient=["scan_01", *table["patient"][1:]]),
        "a column less": lambda: table.drop(columns="z"),
        "a row less": lambda: table[:-1],
        "other organs": lambda: table.assign(has_liver=~table["has_liver"]),
    }[damage]()
    changed.to_parquet(path, index=False)
    for command in (finetune, COMMANDS["prepare"]):
        assert command(way) == 1
        assert "slices.parquet" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"step": 10**9}, "it is at step 1000000000 of 1"),
        ({"step": -1}, "it is at step -1 of 1"),
        ({"step": "1"}, "'step' is '1'"),
        ({"model": None}, "'model' is None"),
        ({"model": {}}, "belongs to another training"),
        ({"optimizer": {}}, "belongs to another training"),
        ({"scheduler": {"last_epoch": None}}, ""),
        ("no model", "it has no 'model'"),
        ("nan", "values that are not finite"),
        ("a tensor", "it holds Tensor"),
    ],
)
def test_a_checkpoint_that_cannot_be_is_not_gone_on_with(way, capsys, change, said):
    path = way / "half" / "checkpoints" / "last.ckpt"
    state = load_checkpoint(path)
    if change == "nan":
        weights = next(iter(state["model"].values()))
        weights[(0,) * weights.ndim] = float("nan")
    elif change == "no model":
        del state["model"]
    elif change != "a tensor":
        state |= change
    path.unlink()
    (way / "half" / "checkpoints" / "best.ckpt").unlink(missing_ok=True)
    save_checkpoint(path, torch.ones(2) if change == "a tensor" else state)
    code = COMMANDS["resume"](way)
    if said:
        assert code == 1
        told = capsys.readouterr().err
        assert said in told
        assert str(path) in told
        assert not (way / "half" / "model.json").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(("run_of", "command"), [("pre", "finetune"), ("fit", "predict")])
def test_weights_that_are_no_numbers_are_not_used(way, capsys, run_of, command, value):
    path = way / run_of / "model.safetensors"
    weights = load_file(path)
    next(iter(weights.values())).view(-1)[0] = value
    path.unlink()
    save_file(weights, path)
    assert COMMANDS[command](way) == 1
    told = capsys.readouterr().err
    assert f"{path} is damaged" in told
    assert "not finite" in told
    assert not (way / "new").exists()


def test_weights_of_another_network(way, capsys):
    path = way / "fit" / "model.safetensors"
    rewrite(path, (way / "pre" / "model.safetensors").read_bytes())
    assert COMMANDS["predict"](way) == 1
    assert f"{path} does not fit model.json beside it: the weight" in capsys.readouterr().err


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    """A finished study of one method."""
    root = tmp_path_factory.mktemp("study")
    text = PLAN[: PLAN.index("  polycl: {pretrain")] + PLAN[PLAN.index("budgets:") :]
    plan = write_plan(root, text.replace("seeds: [0, 1]", "seeds: [0]"))
    command = [sys.executable, "-m", "frugalseg", "study", plan, "--out", root / "out", "--threads", "1"]
    subprocess.run([*map(str, command)], check=True, capture_output=True)
    return root / "out"


STUDY_FILES = {
    "grid.json": ["study status", "report"],
    "plan.yaml": ["study status", "report"],
    "finetune/**/model.json": ["study status", "report"],
    "finetune/**/environment.json": ["study status", "report"],
    "**/summary.json": ["study status", "report"],
    "tests/**/cases.csv": ["report"],
    "tables/tables.json": ["report"],
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    ("pattern", "command"), [(pattern, command) for pattern in STUDY_FILES for command in STUDY_FILES[pattern]]
)
def test_a_damaged_file_of_a_study_is_named(studied, tmp_path, capsys, pattern, command, damage):
    out = tmp_path / "out"
    shutil.copytree(studied, out)
    path = sorted(out.glob(pattern))[0]
    if path.name == "tables.json" and damage == "another's":
        pytest.skip("that lists tables too")
    content = DAMAGES[damage](path.read_bytes())
    if path.name == "cases.csv" and damage == "cut":
        content = content[:20]  # else it may be a whole table of fewer rows
    path.write_bytes(content)
    assert main([*command.split(), str(out)]) == 1
    told = capsys.readouterr().err
    assert str(path) in told
    assert "→" in told


def test_the_fixture_reads_what_it_says(way):
    """What the tests above damage is read where it is whole."""
    for command, work in COMMANDS.items():
        # The copy's model lies elsewhere, and its weights are not of the hash noted; the others are in other tests.
        if command not in ("predict on", "weights verify", "finetune", "predict", "evaluate"):
            assert work(way) == 0, command
            shutil.rmtree(way / "new", ignore_errors=True)


def test_another_backbone_than_the_encoders_is_refused_naming_both(way, capsys):
    assert finetune(way, backbone="resunet") == 1
    assert "--backbone resunet: the encoder is one of unet" in capsys.readouterr().err
