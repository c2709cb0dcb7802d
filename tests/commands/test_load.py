"""`frugalseg.load`: the masks of `frugalseg predict`, from files and arrays, without writing any."""

from __future__ import annotations

import shutil
from dataclasses import fields

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

import frugalseg
from frugalseg.commands.load import OPTIONS, to_volume
from frugalseg.errors import OptionError, RunError, ScanError
from frugalseg.imaging.read import read_volume
from frugalseg.options import PredictOptions
from tests.imaging.scans import write_series
from tests.scans import write_cohort

EXACT = {"device": "cpu", "precision": "32"}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Scans, two models of their organs, and the masks that `frugalseg predict` makes of the first and of the mean."""
    root = tmp_path_factory.mktemp("load")
    images, labels = write_cohort(root, 4, shape=(32, 28, 6))
    store = frugalseg.prepare(images=images, labels=labels, target=["liver=6", "spleen=1"], size=32, out=root / "store")
    for seed, steps in enumerate((30, 6)):
        frugalseg.finetune(data=store, out=root / f"fit{seed}", steps=steps, validate_every=steps, seed=seed, **EXACT)
    one, both = root / "fit0", [root / "fit0", root / "fit1"]
    frugalseg.predict(model=one, images=images, out=root / "one", probabilities=True, **EXACT)
    frugalseg.predict(model=both, images=images, out=root / "both", **EXACT)
    return root


@pytest.fixture(scope="module")
def model(root):
    return frugalseg.load(root / "fit0", **EXACT)


def scan(root, case="scan_01"):
    return nib.load(root / "images" / f"{case}.nii.gz")


def mask(folder, case="scan_01"):
    return np.asarray(nib.load(folder / f"{case}.nii.gz").dataobj)


def test_a_file_gives_the_voxels_that_predict_writes(root, model):
    found = model.predict(str(root / "images" / "scan_01.nii.gz"))
    expected = mask(root / "one")
    assert np.array_equal(found.mask, expected)
    assert len(np.unique(expected)) == 3  # both organs are there
    assert np.allclose(found.affine, scan(root).affine)
    assert found.spacing == pytest.approx((4, 4, 5))
    assert found.organs == {"liver": (6,), "spleen": (1,)}
    assert found.role in ("train", "validation", "test")
    assert np.array_equal(found.organ("liver"), expected == 6)
    assert found.volume_ml("liver") == pytest.approx((expected == 6).sum() * 0.08)
    with pytest.raises(OptionError, match="no organ 'kidney'\n.*liver, spleen"):
        found.organ("kidney")


def test_its_confidence_is_the_one_in_the_record(root, model):
    import json

    record = json.loads((root / "one" / "predictions.json").read_text())["confidence"]["scan_01"]
    found = model.predict(root / "images" / "scan_01.nii.gz").confidence
    assert {organ: own.confidence for organ, own in found.items()} == {o: c["confidence"] for o, c in record.items()}


def test_probabilities_are_the_maps_that_predict_writes(root, model):
    found = model.predict(root / "images" / "scan_01.nii.gz", probabilities=True)
    folder = root / "one" / "probabilities"
    for organ in ("liver", "spleen"):
        written = nib.load(folder / f"scan_01.{organ}.nii.gz").get_fdata()
        assert np.allclose(found.probabilities[organ], written, atol=1e-6)
    assert np.allclose(found.uncertainty, nib.load(folder / "scan_01.uncertainty.nii.gz").get_fdata(), atol=1e-6)
    assert 0 < found.probabilities["liver"].max() <= 1
    assert model.predict(root / "images" / "scan_01.nii.gz").probabilities == {}


@pytest.mark.parametrize("dtype", [np.float64, np.int16, np.int64])
def test_an_array_with_its_affine_gives_the_same(root, model, dtype):
    image = scan(root)
    found = model.predict(image.get_fdata().astype(dtype), affine=image.affine)
    assert np.array_equal(found.mask, mask(root / "one"))
    assert np.array_equal(found.affine, image.affine)


def test_an_array_with_its_spacing_lies_as_in_dicom(root, model):
    """The scans of the test have the axes LPS, so spacing alone describes them."""
    image = scan(root)
    found = model.predict(image.get_fdata(), spacing=(4, 4, 5))
    assert np.array_equal(found.mask, mask(root / "one"))


def test_scans_in_the_working_folder_say_nothing_about_an_array(root, model, tmp_path, monkeypatch):
    write_series(tmp_path / "other", Modality="MR")
    monkeypatch.chdir(tmp_path)
    found = model.predict(scan(root).get_fdata(), spacing=(4, 4, 5))
    assert np.array_equal(found.mask, mask(root / "one"))


def test_an_array_of_simpleitk_in_its_own_order(root, model):
    image = SimpleITK.ReadImage(root / "images" / "scan_01.nii.gz")
    array = SimpleITK.GetArrayFromImage(image)
    found = model.predict(array, spacing=image.GetSpacing()[::-1], axes="SPL")
    assert np.array_equal(found.mask, mask(root / "one").transpose(2, 1, 0))
    turned = model.predict(array[::-1], spacing=image.GetSpacing()[::-1], axes="IPL")
    assert np.array_equal(turned.mask[::-1], found.mask)


@pytest.mark.parametrize("axes", ["LPS", "RAS", "SPL", "AIR"])
def test_axes_mean_what_volumes_call_them(axes):
    volume = to_volume(np.zeros((2, 3, 4)), (1, 2, 3), None, axes)
    assert (volume.axes, volume.spacing) == (axes, (1, 2, 3))


def test_several_runs_are_averaged(root):
    expected = mask(root / "both")
    for given in ([root / "fit0", root / "fit1"],), (root / "fit0", str(root / "fit1")):
        found = frugalseg.load(*given, **EXACT).predict(root / "images" / "scan_01.nii.gz")
        assert np.array_equal(found.mask, expected)
    assert not np.array_equal(expected, mask(root / "one"))


def test_a_saved_mask_is_the_file_of_predict(root, model, tmp_path):
    model.predict(root / "images" / "scan_01.nii.gz").save(tmp_path / "mask.nii.gz")
    mine, theirs = read_volume(tmp_path / "mask.nii.gz"), read_volume(root / "one" / "scan_01.nii.gz")
    assert np.array_equal(mine.array, theirs.array)
    assert mine.same_grid(theirs)


def test_nothing_is_written(root, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(root.rglob("*"))
    model.predict(root / "images" / "scan_01.nii.gz", probabilities=True)
    assert sorted(root.rglob("*")) == before
    assert list(tmp_path.iterdir()) == []


def test_options_are_those_of_predict(root):
    assert {*OPTIONS} <= {field.name for field in fields(PredictOptions)}
    written = frugalseg.load(root / "fit0", target="liver=3", **EXACT)
    assert written.organs == {"liver": (3,)}
    assert {*np.unique(written.predict(root / "images" / "scan_01.nii.gz").mask)} == {0, 3}
    with pytest.raises(OptionError, match="no option kep\n.*`keep`"):
        frugalseg.load(root / "fit0", kep="all")
    with pytest.raises(OptionError, match="no option images"):
        frugalseg.load(root / "fit0", images="scans")
    with pytest.raises(OptionError, match="--keep biggest: expected one of"):
        frugalseg.load(root / "fit0", keep="biggest")


BOX = np.zeros((8, 8, 4))


@pytest.mark.parametrize(
    ("array", "more", "said"),
    [
        (BOX, {}, "an array was given with neither spacing nor affine"),
        (BOX, {"spacing": (1, 1, 1), "affine": np.eye(4)}, "both spacing and affine"),
        (BOX[:, :, 0], {"spacing": (1, 1)}, "the array has the shape 8×8, expected three axes"),
        (BOX[None], {"spacing": (1, 1, 1)}, "the shape 1×8×8×4, expected three axes"),
        (BOX[:0], {"spacing": (1, 1, 1)}, "the shape 0×8×4"),
        (np.where(np.arange(4) == 2, np.nan, BOX), {"spacing": (1, 1, 1)}, "64 of 256 voxels .* are NaN, infinite"),
        (np.where(np.arange(4) == 2, 1e300, BOX), {"spacing": (1, 1, 1)}, "64 of 256 voxels .* or too large"),
        (np.full(BOX.shape, 1 << 40), {"spacing": (1, 1, 1)}, "values from 1099511627776 .* at most 32 bits"),
        (np.full((2, 2, 2), "a"), {"spacing": (1, 1, 1)}, "an array of <U1, expected a path or an array of numbers"),
        (BOX.astype(complex), {"spacing": (1, 1, 1)}, "an array of complex128, expected"),
        (None, {"spacing": (1, 1, 1)}, "the scan is NoneType, expected a path or an array"),
        ([[1], [1, 2]], {"spacing": (1, 1, 1)}, "the scan is list, expected a path or an array"),
        (BOX, {"spacing": (1, 1)}, r"spacing \(1, 1\): expected three numbers above 0"),
        (BOX, {"spacing": (1, 1, 0)}, r"spacing \(1, 1, 0\): expected three numbers"),
        (BOX, {"spacing": "wide"}, "spacing wide: expected three numbers"),
        (BOX, {"spacing": (1, 1, 1), "axes": "LRS"}, "axes 'LRS': expected one letter each"),
        (BOX, {"affine": np.eye(3)}, "not a finite 4×4 matrix"),
        (BOX, {"affine": "wide"}, "not a 4×4 matrix"),
        (BOX, {"affine": np.zeros((4, 4))}, "zero spacing or parallel axes"),
    ],
)
def test_an_array_that_is_no_scan(model, array, more, said):
    with pytest.raises((ScanError, OptionError), match=said):
        model.predict(array, **more)


def test_a_file_that_is_no_single_scan(root, model, tmp_path):
    with pytest.raises(ScanError, match="holds 4 scans, expected one\n.*frugalseg.predict"):
        model.predict(root / "images")
    with pytest.raises(ScanError, match="does not exist|no such"):
        model.predict(tmp_path / "gone.nii.gz")
    with pytest.raises(OptionError, match="with a file, which states its own"):
        model.predict(root / "images" / "scan_01.nii.gz", spacing=(1, 1, 1))


def test_a_scan_of_another_modality_is_refused(root, model):
    with pytest.raises(ScanError, match="is MR"):
        model.predict(scan(root).get_fdata().clip(0) * 3 + 900, spacing=(4, 4, 5))


def test_a_half_copied_run(root, tmp_path):
    for name, said in (
        ("model.json", "is a run that has not finished (.*)\n.*copy the folder again"),
        ("model.safetensors", "model.safetensors cannot be read"),
    ):
        part = shutil.copytree(root / "fit0", tmp_path / name)
        (part / name).unlink()
        with pytest.raises(RunError, match=said):
            frugalseg.load(part)
    cut = shutil.copytree(root / "fit0", tmp_path / "cut")
    content = (cut / "model.safetensors").read_bytes()
    (cut / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(RunError, match="model.safetensors cannot be read"):
        frugalseg.load(cut)


def test_a_folder_without_a_model(root, tmp_path):
    with pytest.raises(RunError, match="holds no trained model"):
        frugalseg.load(tmp_path)
    with pytest.raises(RunError, match="holds no trained model"):
        frugalseg.load(tmp_path / "gone")
    with pytest.raises(OptionError, match="names no run"):
        frugalseg.load()
    encoder = frugalseg.pretrain(
        data=root / "store", out=tmp_path / "pre", method="simclr", steps=1, batch_size=4, **EXACT
    )
    with pytest.raises(RunError, match="holds a model of kind 'encoder', expected 'segmenter'\n.*frugalseg finetune"):
        frugalseg.load(encoder)
