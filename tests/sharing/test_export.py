"""Exported models, run by programs that are not ours, make the masks that `predict` makes."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from frugalseg.commands.finetune import finetune
from frugalseg.commands.predict import predict
from frugalseg.dataset.prepare import prepare
from frugalseg.engine.files import MODEL_FILE
from frugalseg.errors import OptionError, RunError
from frugalseg.options import ExportOptions, FinetuneOptions, PredictOptions, PrepareOptions
from frugalseg.records.model import PromptableModel
from frugalseg.records.networks import SegmenterRecord
from frugalseg.records.recipe import ExportRecipe
from frugalseg.sharing import agreement, network
from frugalseg.sharing import export as exporting
from frugalseg.sharing.export import export
from tests.scans import tiny_scan, write_cohort

FORMATS = {"onnx": "recipe.json", "torch": "recipe.json", "monai-bundle": "configs/recipe.json"}
OBLIQUE = np.array([[0.6, -3.2, 0.3, 20], [3.1, 0.5, -0.2, -70], [0.1, 0.2, -5.0, 40], [0, 0, 0, 1.0]])
"""A grid with its axes exchanged, flipped, oblique and sheared."""


@pytest.fixture(scope="module", params=[("ct", 0), ("ct", 1), ("mr", 0)], ids=["ct", "ct-context", "mr"])
def root(request, tmp_path_factory):
    """A folder with scans, one of them oblique and not square, and a model of liver and spleen."""
    kind, context = request.param
    root = tmp_path_factory.mktemp("export")
    images, labels = write_cohort(root, 5, shape=(32, 32, 6))
    prepare(
        PrepareOptions(
            images=images, labels=labels, target=["liver=6", "spleen=1"], size=48, modality=kind, out=root / "store"
        )
    )
    exact = {"device": "cpu", "precision": "32"}
    finetune(
        FinetuneOptions(data=root / "store", out=root / "fit", steps=120, budget="3 scans", context=context, **exact)
    )
    record = SegmenterRecord.read_run(root / "fit")
    replace(record, keep={"liver": "core", "spleen": "largest"}).write(root / "fit" / MODEL_FILE)
    (root / "scans").mkdir()
    image, _ = tiny_scan(7, (40, 31, 9))
    nib.save(nib.Nifti1Image(image, OBLIQUE), root / "scans" / "oblique.nii.gz")
    image, _ = tiny_scan(8, (25, 36, 7))
    nib.save(nib.Nifti1Image(image, np.diag([-3.0, 2.5, 5, 1])), root / "scans" / "other.nii.gz")
    predict(PredictOptions(model=root / "fit", images=root / "scans", out=root / "ours", modality=kind, **exact))
    return root


def options(root, out, **more) -> ExportOptions:
    return ExportOptions(model=root / "fit", out=out, device="cpu", **more)


def check_masks(root, folder):
    for case in ("oblique", "other"):
        ours, theirs = nib.load(root / "ours" / f"{case}.nii.gz"), nib.load(folder / f"{case}.nii.gz")
        assert np.allclose(ours.affine, theirs.affine, atol=1e-4)
        expected, found = np.asarray(ours.dataobj), np.asarray(theirs.dataobj)
        assert {*np.unique(expected)} == {0, 1, 6}
        assert found.shape == expected.shape
        assert np.count_nonzero(found != expected) <= 2  # ties


def run_alone(folder, *words, **more) -> None:
    """Run in a process that cannot import frugalseg."""
    block = "import sys, runpy; sys.modules['frugalseg'] = None; sys.argv = sys.argv[1:]; sys.path.insert(0, '.')"
    hide = "; sys.modules['torch'] = None" if more.get("without_torch") else ""
    code = f"{block}{hide}; runpy.run_path(sys.argv[0], run_name='__main__')"
    subprocess.run([sys.executable, "-c", code, *map(str, words)], cwd=folder, check=True, capture_output=True)


@pytest.mark.parametrize("kind", ["onnx", "torch"])
def test_the_example_beside_the_network_makes_our_masks_alone(root, tmp_path, kind, capsys):
    if kind == "onnx":
        pytest.importorskip("onnx")
        pytest.importorskip("onnxruntime")
    recipe = export(options(root, tmp_path / "out", format=kind))
    assert "probabilities differ by at most" in capsys.readouterr().err
    assert recipe.check.largest_difference < 1e-4
    assert recipe.check.values == 6 * 3 * 48 * 48
    assert recipe == ExportRecipe.read(tmp_path / "out" / "recipe.json")
    assert len((tmp_path / "out" / "predict.py").read_text().splitlines()) <= 40
    for case in ("oblique", "other"):
        scan, mask = root / "scans" / f"{case}.nii.gz", tmp_path / f"{case}.nii.gz"
        run_alone(tmp_path / "out", "predict.py", scan, mask, without_torch=kind == "onnx")
    check_masks(root, tmp_path)


def test_the_bundle_runs_with_monai_and_makes_our_masks(root, tmp_path):
    pytest.importorskip("monai")
    out = tmp_path / "bundle"
    export(options(root, out, format="monai-bundle"))
    code = (
        "import sys; sys.modules['frugalseg'] = None\n"
        "from monai.bundle import run\n"
        "run(bundle_root='.', config_file='configs/inference.json', meta_file='configs/metadata.json', "
        "dataset_dir=sys.argv[1], output_dir=sys.argv[2])"
    )
    words = [sys.executable, "-c", code, str(root / "scans"), str(tmp_path / "masks")]
    done = subprocess.run(words, cwd=out, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    check_masks(root, tmp_path / "masks")
    described = json.loads((out / "configs" / "metadata.json").read_text())["network_data_format"]
    loaded = torch.jit.load(out / "models" / "model.ts")
    shown, given = described["inputs"]["image"], described["outputs"]["pred"]
    with torch.inference_mode():
        found = loaded(torch.rand(3, shown["num_channels"], *shown["spatial_shape"]))
    assert found.shape == (3, given["num_channels"], *given["spatial_shape"])
    assert torch.allclose(found.sum(dim=1), torch.ones(3, 48, 48), atol=1e-5)


def test_a_network_that_computes_something_else_is_not_exported(root, tmp_path, monkeypatch):
    save = network.save_torchscript

    def wrong(model, example, path):
        run = save(model, example, path)
        return lambda slices: np.roll(run(slices), 1, axis=1)

    kind = replace(exporting.KINDS["torch"], save=wrong)
    monkeypatch.setitem(exporting.KINDS, "torch", kind)
    with pytest.raises(RunError, match="differs from the trained one"):
        export(options(root, tmp_path / "out", format="torch"))
    assert not (tmp_path / "out" / "model.ts").exists()
    assert not (tmp_path / "out" / "recipe.json").exists()


def test_ties_are_counted_apart():
    class Given(torch.nn.Module):
        def forward(self, slices):
            return torch.tensor([0.5, 0.5]).reshape(1, 2, 1, 1).expand(len(slices), 2, 4, 4)

    other = np.broadcast_to(np.array([0.4999, 0.5001], np.float32).reshape(1, 2, 1, 1), (1, 2, 4, 4))
    found = agreement.compare(Given(), lambda slices: other, np.zeros((1, 1, 4, 4), np.float32), Path(__file__))
    assert found.different_classes == 16
    assert "16 pixels with a tie" in agreement.describe_check(found)


def test_what_cannot_be_exported_is_refused(root, tmp_path):
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").touch()
    with pytest.raises(RunError, match="is not empty"):
        export(options(root, tmp_path / "used", format="torch"))
    assert export(options(root, tmp_path / "used", format="torch", overwrite=True))
    frozen = tmp_path / "frozen"
    frozen.mkdir()
    record = SegmenterRecord.read_run(root / "fit")
    replace(record, frozen_encoder=PromptableModel("litemedsam", "LiteMedSAM", "abc")).write(frozen / MODEL_FILE)
    with pytest.raises(OptionError, match=r"frozen encoder LiteMedSAM, whose weights are not part of the model"):
        export(ExportOptions(model=frozen, out=tmp_path / "out", format="torch"))
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in (MODEL_FILE, "model.safetensors"):
        (moved / name).write_bytes((root / "fit" / name).read_bytes())
    with pytest.raises(OptionError, match=r"no longer where they were\n.*--scan"):
        export(ExportOptions(model=moved, out=tmp_path / "out", format="torch"))
    assert export(
        ExportOptions(model=moved, out=tmp_path / "out", format="torch", scan=root / "scans" / "other.nii.gz")
    )


def test_without_the_extra_the_error_says_what_to_install(root, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(OptionError, match=r"needs onnx.*\n.*frugalseg\[onnx\]"):
        export(options(root, tmp_path / "out"))
