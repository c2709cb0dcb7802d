"""Every command that processes scans, on two nodes of which one is killed in the middle: the same bytes as here."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from frugalseg.commands.finetune import finetune
from frugalseg.commands.predict import predict
from frugalseg.dataset.prepare import prepare
from frugalseg.engine.lock import LOCK
from frugalseg.errors import ScanError
from frugalseg.evaluation.evaluate import evaluate
from frugalseg.options import (
    EvaluateOptions,
    FinetuneOptions,
    PredictOptions,
    PrepareOptions,
    PropagateOptions,
    RefineOptions,
)
from frugalseg.propagation.propagate import propagate
from frugalseg.refinement.refine import refine
from tests.cluster.nodes import kill_in_the_middle
from tests.promptable.tiny_networks import sam
from tests.scans import write_cohort

EXACT = {"device": "cpu", "precision": "32", "threads": 1}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Scans, masks, a model of them, and a promptable model."""
    root = tmp_path_factory.mktemp("cluster")
    write_cohort(root, 6, shape=(32, 32, 6))
    prepare(prepare_options(root, root / "store"))
    finetune(FinetuneOptions(data=root / "store", out=root / "fit", steps=20, budget="3 scans", **EXACT))
    sam().save_pretrained(root / "sam")
    predict(predict_options(root, root / "masks"))
    return root


def prepare_options(root, out):
    given = {"images": root / "images", "labels": root / "labels", "target": ["liver=6", "spleen=1"]}
    return PrepareOptions(**given, out=out, size=32, modality="ct", workers=2, threads=2)


def predict_options(root, out):
    return PredictOptions(model=root / "fit", images=root / "images", out=out, **EXACT)


def refine_options(root, out):
    given = {"images": root / "images", "masks": root / "labels", "model": str(root / "sam"), "modality": "ct"}
    return RefineOptions(**given, out=out, target=["liver=6"], min_iou=0.0, **EXACT)


def propagate_options(root, out):
    given = {"images": root / "images", "annotations": root / "labels", "model": str(root / "sam"), "modality": "ct"}
    return PropagateOptions(**given, out=out, target=["liver=6"], slices="3", **EXACT)


def evaluate_options(root, out):
    given = {"predictions": root / "masks", "references": root / "labels", "target": ["liver=6", "spleen=1"]}
    return EvaluateOptions(**given, out=out, images=root / "images", bootstrap=100, workers=2, threads=2)


COMMANDS = {
    "prepare": (prepare, prepare_options),
    "predict": (predict, predict_options),
    "refine": (refine, refine_options),
    "propagate": (propagate, propagate_options),
    "evaluate": (evaluate, evaluate_options),
}


OWN = re.compile(rb'\d{4}-\d\d-\d\dT[\d:]+|"ray": [\w"]+|<dt>ray</dt><dd>[\w ]+')
"""What an evaluation says of its own run: date and --ray; --out is the third."""


def contents(folder: Path) -> dict[str, bytes]:
    """Relative path → content, of every file but the lock, without `OWN`."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != LOCK]
    out = str(folder).encode()
    return {str(path.relative_to(folder)): OWN.sub(b"", path.read_bytes().replace(out, b"")) for path in files}


@pytest.mark.parametrize("name", COMMANDS)
def test_with_a_node_killed_in_the_middle_the_bytes_are_those_of_a_local_run(name, root, nodes, monkeypatch, tmp_path):
    command, options = COMMANDS[name]
    command(options(root, tmp_path / "here"))
    kill_in_the_middle(monkeypatch, nodes)
    command(replace(options(root, tmp_path / "cluster"), ray="auto"))
    assert nodes.count() == 1
    here = contents(tmp_path / "here")
    assert len(here) > 3
    assert contents(tmp_path / "cluster") == here


def test_a_broken_scan_is_reported_by_its_case_and_done_later(root, nodes, tmp_path):
    images, _ = write_cohort(tmp_path, 3, shape=(32, 32, 6))
    whole = (images / "scan_01.nii.gz").read_bytes()
    (images / "scan_01.nii.gz").write_bytes(whole[:200])
    options = replace(predict_options(root, tmp_path / "out"), images=images, ray="auto")
    with pytest.raises(ScanError, match="1 of 3 scans not segmented.*\n.*scan_01"):
        predict(options)
    assert sorted(path.name for path in (tmp_path / "out").glob("*.nii.gz")) == ["scan_00.nii.gz", "scan_02.nii.gz"]
    (images / "scan_01.nii.gz").write_bytes(whole)
    assert list(predict(replace(options, resume="yes"))) == ["scan_00", "scan_01", "scan_02"]
