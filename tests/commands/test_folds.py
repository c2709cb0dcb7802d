"""Cross-validation: `finetune --folds`, and the mean of its models."""

from __future__ import annotations

import pytest

from frugalseg import cli
from frugalseg.commands.finetune import finetune
from frugalseg.commands.predict import predict
from frugalseg.dataset.prepare import prepare
from frugalseg.dataset.store import SliceStore
from frugalseg.engine.files import sha256
from frugalseg.errors import OptionError, SplitError
from frugalseg.options import FinetuneOptions, PredictOptions, PrepareOptions
from frugalseg.records.networks import SegmenterRecord
from frugalseg.records.predictions import PREDICTIONS_FILE, PredictionRecord
from tests.scans import write_cohort

EXACT = {"device": "cpu", "precision": "32"}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    root = tmp_path_factory.mktemp("folds")
    images, labels = write_cohort(root, 6, shape=(32, 32, 6))
    prepare(PrepareOptions(images=images, labels=labels, target=["liver=6"], size=32, out=root / "store"))
    return root / "store"


def options(store, out, **more) -> FinetuneOptions:
    return FinetuneOptions(data=store, out=out, steps=6, budget="100%", **EXACT, **more)


def test_each_fold_is_validated_on_its_own_patients(store, tmp_path, capsys):
    words = ["finetune", "--data", str(store), "--out", str(tmp_path / "cv"), "--folds", "2", "--budget", "100%"]
    assert cli.main([*words, "--steps", "6", "--device", "cpu", "--precision", "32"]) == 0
    said = capsys.readouterr().err
    assert "mean validation Dice of the folds" in said
    runs = [tmp_path / "cv" / f"fold-{fold}" for fold in range(2)]
    assert f"--model {runs[0]} {runs[1]}" in said
    split = SliceStore.open(store).split()
    validated = []
    for run in runs:
        roles = {scan.case: scan.role for scan in SegmenterRecord.read_run(run).scans}
        assert {case for case, role in roles.items() if role == "test"} == set(split.test)
        assert set(roles.values()) == {"train", "validation", "test"}
        validated += [case for case, role in roles.items() if role == "validation"]
    assert sorted(validated) == sorted((*split.train, *split.validation))
    alone = finetune(options(store, tmp_path / "alone", folds=2, fold=1))
    assert sha256(alone.path / "model.safetensors") == sha256(runs[1] / "model.safetensors")

    out = tmp_path / "masks"
    predict(PredictOptions(model=runs, images=store.parent / "images", out=out, **EXACT))
    found = PredictionRecord.read(out / PREDICTIONS_FILE).roles
    assert {case for case, role in found.items() if role == "test"} == set(split.test)
    assert {role for case, role in found.items() if case not in split.test} == {"train"}


def test_a_killed_cross_validation_goes_on(store, tmp_path, monkeypatch):
    finetune(options(store, tmp_path / "cv", folds=2, fold=0))
    (tmp_path / "cv").rename(tmp_path / "first")
    (tmp_path / "cv").mkdir()
    (tmp_path / "first").rename(tmp_path / "cv" / "fold-0")
    before = (tmp_path / "cv" / "fold-0" / "model.safetensors").stat().st_mtime_ns
    runs = finetune(options(store, tmp_path / "cv", folds=2, resume="yes"))
    assert [run.finished for run in runs] == [True, True]
    assert (tmp_path / "cv" / "fold-0" / "model.safetensors").stat().st_mtime_ns == before


def test_wrong_folds_are_refused(store, tmp_path):
    for given, said in (
        ({"folds": 1}, "below 2"),
        ({"fold": 0}, "without --folds"),
        ({"folds": 3, "fold": 3}, r"give 0…2"),
    ):
        with pytest.raises(OptionError, match=said):
            options(store, tmp_path / "cv", **given)
    with pytest.raises(SplitError, match="--folds 9: only"):
        finetune(options(store, tmp_path / "cv", folds=9))
    assert not (tmp_path / "cv").exists()
