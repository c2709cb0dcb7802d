"""Plug-ins of all four kinds, installed as a package and named by --plugin, end to end on tiny scans."""

from __future__ import annotations

import csv
import importlib
import json
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import frugalseg
from frugalseg import plugins
from frugalseg.cli import main
from frugalseg.errors import FrugalsegError, OptionError, RunError
from frugalseg.evaluation.metric_table import METRICS
from frugalseg.models.registry import BACKBONES
from frugalseg.pretraining.methods import METHODS
from frugalseg.promptable.load import PROMPTABLE_MODELS
from tests.scans import write_cohort

PAGE = Path(__file__).resolve().parents[1] / "docs" / "how-to" / "plugins.md"
CODE = re.search(r"<!-- module: tiny_plugin -->\n```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[1]
"""The plug-in of the documentation."""
EXACT = {"device": "cpu", "precision": "32"}


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    """Each test finds plug-ins anew, and leaves none behind."""
    monkeypatch.setenv(plugins.VARIABLE, "")  # restored afterwards, whatever a test sets
    before = {*sys.modules}
    plugins.forget_plugins()
    yield
    plugins.forget_plugins()
    for name in {*sys.modules} - before:
        if name.endswith("_plugin"):
            del sys.modules[name]


def install(folder: Path, module: str, code: str, version: str = "1.2") -> None:
    """A package as pip installs it: the module, and its .dist-info with an entry point."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{module}.py").write_text(code)
    info = folder / f"{module}-{version}.dist-info"
    info.mkdir()
    package = module.replace("_", "-")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[frugalseg.plugins]\n{module} = {module}\n")


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder of installed packages."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    importlib.invalidate_caches()
    return folder


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    root = tmp_path_factory.mktemp("scans")
    images, labels = write_cohort(root, 4, shape=(32, 32, 4))
    frugalseg.prepare(images=images, labels=labels, target="liver=6", size=32, out=root / "store")
    return root


def test_all_four_kinds_from_an_installed_package(site, scans, tmp_path):
    install(site, "tiny_plugin", CODE)
    encoder = frugalseg.pretrain(
        data=scans / "store",
        method="simclr-cold",
        backbone="narrow-unet",
        steps=1,
        batch_size=4,
        out=tmp_path / "encoder",
        **EXACT,
    )
    origin = {"module": "tiny_plugin", "package": "tiny-plugin", "version": "1.2"}
    record = json.loads((tmp_path / "encoder" / "model.json").read_text())
    assert (record["method"], record["backbone"], record["plugin"]) == ("simclr-cold", "narrow-unet", origin)
    run = frugalseg.finetune(
        data=scans / "store", encoder=encoder, backbone="narrow-unet", steps=30, out=tmp_path / "model", **EXACT
    )
    record = json.loads((tmp_path / "model" / "model.json").read_text())
    assert record["plugin"] == origin
    assert record["parameters"] < 30_000
    frugalseg.predict(model=run, images=scans / "images", out=tmp_path / "masks", **EXACT)
    frugalseg.refine(
        images=scans / "images",
        masks=scans / "labels",
        model="bright",
        target="liver=6",
        out=tmp_path / "refined",
        device="cpu",
    )
    note = json.loads((tmp_path / "refined" / "predictions.json").read_text())
    assert note["promptable"]["signature"] == "bright-1"
    assert np.any(np.asarray(nib.load(tmp_path / "refined" / "scan_00.nii.gz").dataobj))
    frugalseg.evaluate(
        predictions=tmp_path / "refined", references=scans / "labels", target="liver=6", out=tmp_path / "scores"
    )
    rows = list(csv.DictReader((tmp_path / "scores" / "cases.csv").open()))
    for row in rows:
        dice = float(row["dice"])
        assert float(row["jaccard"]) == pytest.approx(dice / (2 - dice), abs=1e-4)
    assert "Jaccard" in (tmp_path / "scores" / "report.html").read_text()


def test_a_model_of_a_plugin_says_what_is_missing_without_it(site, scans, tmp_path, monkeypatch):
    install(site, "tiny_plugin", CODE)
    run = frugalseg.finetune(data=scans / "store", backbone="narrow-unet", steps=1, out=tmp_path / "model", **EXACT)
    assert frugalseg.load(run).organs == {"liver": (6,)}
    shutil.rmtree(site)
    plugins.forget_plugins()
    del sys.modules["tiny_plugin"]
    with pytest.raises(RunError) as error:
        frugalseg.load(run)
    assert "needs the backbone 'narrow-unet' of the plug-in tiny_plugin (tiny-plugin 1.2), which is missing" in str(
        error.value
    )
    assert "install tiny-plugin 1.2, or name the plug-in by --plugin tiny_plugin" in str(error.value)
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "tiny_plugin.py").write_text(CODE)
    monkeypatch.chdir(tmp_path / "work")
    frugalseg.load_plugin("tiny_plugin")
    assert frugalseg.load(run).organs == {"liver": (6,)}


METRIC = """
from frugalseg.evaluation.metric_table import Metric
from frugalseg.evaluation.policy import ALWAYS
METRICS = {"seven": Metric("seven", "Seven", lambda pair: 7.0, ALWAYS, "always seven")}
"""


def test_the_command_line_with_a_module_in_the_working_folder(scans, tmp_path):
    (tmp_path / "seven_plugin.py").write_text(METRIC)
    shutil.copytree(scans / "labels", tmp_path / "masks")
    flags = ["--predictions", "masks", "--references", str(scans / "labels"), "--target", "liver=6", "--report=false"]
    # As the console script: the working folder is not on the path of Python.
    code = "import sys; sys.path.remove(''); from frugalseg.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "evaluate", *flags, "--out", "out", "--plugin", "seven_plugin"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader((tmp_path / "out" / "cases.csv").open()))
    assert {row["seven"] for row in rows} == {"7.0"}


def test_a_started_process_has_the_plugins_of_its_parent(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "small_plugin.py").write_text("METRICS = {}")
    frugalseg.load_plugin("small_plugin")
    code = "from frugalseg.plugins import find_plugins; print([str(p.origin) for p in find_plugins()])"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "small_plugin" in done.stdout


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import nowhere", "ModuleNotFoundError: No module named 'nowhere'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("def broken(:", "SyntaxError"),
    ],
)
def test_a_plugin_that_cannot_be_imported_is_named_and_everything_else_works(site, scans, tmp_path, code, why):
    install(site, "broken_plugin", code)
    masks = shutil.copytree(scans / "labels", tmp_path / "masks")
    where = {"predictions": masks, "references": scans / "labels", "target": "liver=6", "report": False}
    with pytest.warns(
        UserWarning, match=r"the plug-in broken_plugin \(broken-plugin 1\.2\) cannot be imported"
    ) as told:
        frugalseg.evaluate(**where, out=tmp_path / "scores")
    assert any(why in str(one.message) for one in told)
    assert (tmp_path / "scores" / "summary.json").is_file()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "narrow-unet" not in BACKBONES  # told once
    with pytest.raises(OptionError, match=r"--method cold: expected one of .*broken_plugin .* cannot be imported"):
        frugalseg.pretrain(data=scans / "store", out=tmp_path / "e", method="cold")


def test_a_plugin_named_by_hand_that_cannot_be_used_is_an_error(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "bad_plugin.py").write_text("import nowhere")
    (tmp_path / "empty_plugin.py").write_text("X = 1")
    (tmp_path / "wrong_plugin.py").write_text("BACKBONES = {'x': {}}")
    for name, said in (
        ("bad_plugin", "--plugin bad_plugin: it cannot be imported (ModuleNotFoundError: No module named 'nowhere')"),
        ("gone_plugin", "--plugin gone_plugin: it cannot be imported (ModuleNotFoundError"),
        ("empty_plugin", "--plugin empty_plugin: the module has none of the tables BACKBONES"),
        (
            "wrong_plugin",
            "BACKBONES['x'] is a dict, expected a frugalseg.models.backbone.Backbone",
        ),
    ):
        assert main(["weights", "list", "--plugin", name]) == 2
        assert said in capsys.readouterr().err
    assert plugins.find_plugins() == []


CLASH = "from frugalseg.models.unet import UNET\nBACKBONES = {'unet': UNET, 'mine': UNET}"


def test_a_name_that_frugalseg_has_is_refused_naming_both(site, tmp_path, monkeypatch):
    install(site, "clash_plugin", CLASH)
    with pytest.warns(
        UserWarning, match=r"clash_plugin \(clash-plugin 1\.2\) has a backbone 'unet', and so has frugalseg"
    ):
        assert "mine" in BACKBONES
    assert BACKBONES.origin("unet") is None
    plugins.forget_plugins()
    shutil.rmtree(site)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other_plugin.py").write_text(CLASH)
    with pytest.raises(OptionError, match="the plug-in other_plugin has a backbone 'unet', and so has frugalseg"):
        frugalseg.load_plugin("other_plugin")


def test_a_name_of_another_plugin_is_refused_naming_both(site):
    code = "from frugalseg.models.unet import UNET\nBACKBONES = {'mine': UNET}"
    install(site, "first_plugin", code)
    install(site, "second_plugin", code)
    with pytest.warns(UserWarning, match=r"a backbone 'mine', and so has \w+_plugin \(\w+-plugin 1\.2\)"):
        assert BACKBONES["mine"] is not None
    third = type(sys)("third_plugin")
    third.BACKBONES = {"mine": BACKBONES["unet"]}
    with pytest.raises(OptionError, match="the plug-in third_plugin has a backbone 'mine', and so has"):
        frugalseg.load_plugin(third)


def test_a_promptable_model_cannot_have_the_name_of_published_weights(site):
    install(site, "weights_plugin", CODE.replace('"bright": Prom', '"litemedsam": Prom'))
    with pytest.warns(UserWarning, match="a promptable model 'litemedsam', and so has frugalseg"):
        assert "litemedsam" not in PROMPTABLE_MODELS


def test_without_plugins_the_tables_are_those_of_frugalseg():
    from frugalseg.evaluation.metric_table import OWN_METRICS
    from frugalseg.models.registry import OWN_BACKBONES
    from frugalseg.pretraining.methods import OWN_METHODS

    assert (dict(BACKBONES), dict(METHODS), dict(METRICS)) == (OWN_BACKBONES, OWN_METHODS, OWN_METRICS)


def test_an_unknown_name_lists_those_of_plugins_too(site, scans, tmp_path):
    install(site, "tiny_plugin", CODE)
    for wrong, right in (("method", "simclr-cold"), ("recipe", "simclr-cold"), ("backbone", "narrow-unet")):
        with pytest.raises(OptionError, match=f"--{wrong} x: expected one of .*{right}"):
            frugalseg.pretrain(data=scans / "store", out=tmp_path / "e", **{wrong: "x"})
    with pytest.raises(FrugalsegError, match="unknown weights 'x'.*\n.*bright"):
        frugalseg.refine(
            images=scans / "images", masks=scans / "labels", model="x", target="liver=6", out=tmp_path / "r"
        )
