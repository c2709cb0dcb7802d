"""Commands called from Python: keywords, their errors, their help, their types."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from benchmarks import api_stub

import frugalseg
from frugalseg import cli
from frugalseg.commands import functions
from frugalseg.commands.help import read_option_texts
from frugalseg.commands.table import COMMANDS, function_name
from frugalseg.commands.values import to_options
from frugalseg.errors import OptionError
from frugalseg.options import FinetuneOptions, PredictOptions, PrepareOptions, WeightsFetchOptions
from tests.scans import write_cohort
from tests.test_lazy_imports import CORE, imported


def given(name, **values):
    return to_options(name, COMMANDS[name], values)


@pytest.fixture
def called(monkeypatch):
    """The options with which a command is called; it then does nothing."""
    seen = []

    class Module:
        def __getattr__(self, name):
            return lambda options: seen.append((name, options)) or "done"

    monkeypatch.setattr(functions, "import_module", lambda _: Module())
    return seen


def test_keywords_are_the_options_and_texts_are_paths(called):
    assert frugalseg.prepare(images="scans", out=Path("store"), target="liver=6", window=[-100, 200]) == "done"
    expected = PrepareOptions(images=Path("scans"), out=Path("store"), target=["liver=6"], window=(-100.0, 200.0))
    assert called == [("prepare", expected)]
    assert all(isinstance(limit, float) for limit in called[0][1].window)


def test_a_record_of_options_is_taken_as_it_is(called):
    options = FinetuneOptions(data=Path("d"), out=Path("o"))
    frugalseg.finetune(options)
    assert called[0][1] is options
    with pytest.raises(OptionError, match="was given a record of options and steps too"):
        frugalseg.finetune(options, steps=4)


def test_the_option_that_needs_no_flag_needs_no_keyword(called):
    frugalseg.weights_fetch("litemedsam")
    assert called == [("weights_fetch", WeightsFetchOptions(name="litemedsam"))]
    with pytest.raises(OptionError, match="`prepare` was given 'scans' without the name of an option"):
        frugalseg.prepare("scans", out="store")


def test_a_run_and_a_store_are_paths(tmp_path):
    from frugalseg.engine.run import RunFolder

    run = RunFolder(tmp_path / "run")
    assert given("predict", model=run, images="i", out="o") == PredictOptions(
        model=tmp_path / "run", images=Path("i"), out=Path("o")
    )
    assert given("predict", model=[run, "b"], images="i", out="o").model == [tmp_path / "run", Path("b")]


def test_numbers_of_numpy_are_numbers():
    options = given("finetune", data="d", out="o", steps=np.int64(5), lr=np.float32(0.5), transductive=np.True_)
    assert (options.steps, options.lr, options.transductive) == (5, 0.5, True)
    assert type(options.steps) is int
    assert type(options.transductive) is bool


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("finetune", {"steps": "many"}, ["--steps", "many"]),
        ("finetune", {"steps": 2.5}, ["--steps", "2.5"]),
        ("finetune", {"norm": "none"}, ["--norm", "none"]),
        ("finetune", {"preset": "magic"}, ["--preset", "magic"]),
        ("finetune", {"lr": "fast"}, ["--lr", "fast"]),
        ("finetune", {"transductive": "maybe"}, ["--transductive", "maybe"]),
        ("finetune", {"steps": 0}, ["--steps", "0"]),
        ("finetune", {"steps": 5, "epochs": 5}, ["--steps", "5", "--epochs", "5"]),
        ("finetune", {"seed": -1}, ["--seed=-1"]),
        ("refine", {"boxes": "body"}, ["--boxes", "body"]),
        ("prepare", {"window": (5, 1)}, ["--window", "5", "1"]),
    ],
)
def test_a_wrong_value_is_refused_with_the_sentence_of_the_command_line(name, values, words):
    needed = {"finetune": {"data": "d"}, "refine": {"images": "i", "masks": "m"}, "prepare": {"images": "i"}}[name]
    flags = [word for option, value in {**needed, "out": "o"}.items() for word in (f"--{option}", value)]
    with pytest.raises(OptionError) as line:
        cli.parse(name, COMMANDS[name], [*flags, *words])
    with pytest.raises(OptionError) as python:
        given(name, **needed, out="o", **values)
    assert str(python.value) == str(line.value)


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("finetune", {"bugdet": "5%"}, "`finetune` has no option bugdet\n  → did you mean `budget`?"),
        ("predict", {"flips": True}, "flips was renamed\n  → write tta"),
        ("predict", {"model": "m"}, "`predict` needs --images and --out\n  → give --images and --out, for example: "),
        ("prepare", {"images": "i", "out": "o", "window": (1, 2, 3)}, "--window 1 2 3: expected 2 values"),
        ("prepare", {"images": 5, "out": "o"}, "--images 5: expected a path"),
        ("prepare", {"images": "i", "out": "o", "target": [6]}, "--target 6: expected a text"),
        ("prepare", {"images": "i", "out": "o", "superpixels": 1}, "--superpixels 1: expected true or false"),
        ("prepare", {"images": "i", "out": "o", "size": True}, "--size True: expected a whole number"),
        ("prepare", {"images": "i", "out": "o", "size": None}, "--size None: expected a whole number"),
    ],
)
def test_wrong_names_missing_names_and_wrong_types(name, values, said):
    with pytest.raises(OptionError) as error:
        given(name, **values)
    assert str(error.value).startswith(said)


def test_dir_lists_the_commands_and_everything_listed_is_there():
    assert {function_name(name) for name in COMMANDS} <= {*dir(frugalseg)}
    assert "load" in dir(frugalseg)
    assert all(getattr(frugalseg, name) is not None for name in dir(frugalseg))
    with pytest.raises(AttributeError, match="no attribute 'predcit'"):
        _ = frugalseg.predcit


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_every_option_with_its_text_and_its_default(name):
    function = getattr(frugalseg, function_name(name))
    shown = " ".join((inspect.getdoc(function) or "").split())
    texts = read_option_texts(COMMANDS[name])
    assert COMMANDS[name].summary in shown
    for field in fields(COMMANDS[name].options):
        assert f"{field.name}: {texts[field.name]}" in shown
        parameter = inspect.signature(function).parameters[field.name]
        assert (parameter.default is inspect.Parameter.empty) == (f"--{field.name}" in required(name))


def required(name):
    from frugalseg.commands.table import required_options

    return {f"--{option}" for option in required_options(COMMANDS[name])}


def test_the_functions_of_the_package_need_no_library_before_they_are_called():
    code = "import frugalseg, inspect\nfor name in dir(frugalseg):\n    f = getattr(frugalseg, name) if name not in "
    code += "('load', 'Model', 'Prediction') else None\n    f and inspect.getdoc(f)"
    assert imported(code) & {*CORE, "numpy", "yaml", "rich", "jsonargparse"} == set()


def test_the_stub_is_the_one_that_the_table_of_commands_gives():
    assert api_stub.FILE.read_text(encoding="utf-8") == api_stub.make_stub(), "run python benchmarks/api_stub.py"


CHECKED = """
import frugalseg
run = frugalseg.load("model", "other", device="cpu")
volume: float = run.predict("scan.nii.gz").volume_ml("liver")
frugalseg.prepare(images="scans", out="store", target=["liver=6"])
frugalseg.finetune(data="store", out="model", bugdet="5%")
frugalseg.predict(model="model", images="scans", out="masks", keep="biggest")
"""


def test_a_type_checker_finds_wrong_names_and_values(tmp_path):
    (tmp_path / "mine.py").write_text(CHECKED)
    source = Path(frugalseg.__file__).parents[1]
    stubs = tmp_path / "stubs"
    (stubs / "frugalseg" / "commands").mkdir(parents=True)
    # The package's own types, without what they import: checking all of it takes a minute.
    (stubs / "frugalseg" / "__init__.pyi").write_text((source / "frugalseg" / "__init__.pyi").read_text())
    settings = [
        "--ignore-missing-imports",
        "--no-site-packages",
        "--cache-dir",
        str(tmp_path / "cache"),
        "--config-file",
        "",
    ]
    command = [sys.executable, "-m", "mypy", *settings, "mine.py"]
    environment = {"MYPYPATH": str(stubs), "PATH": "", "HOME": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    wrong = re.findall(r"mine\.py:(\d+): error", done.stdout)
    assert {*wrong} == {"6", "7"}, done.stdout + done.stderr


def test_a_workflow_of_keyword_calls(tmp_path):
    images, labels = write_cohort(tmp_path, 4, shape=(32, 32, 4))
    store = frugalseg.prepare(images=str(images), labels=labels, target="liver=6", size=32, out=tmp_path / "store")
    run = frugalseg.finetune(data=store, out=str(tmp_path / "fit"), steps=2, device="cpu", precision="32")
    masks = frugalseg.predict(model=run, images=images, out=tmp_path / "masks", device="cpu", precision="32")
    assert sorted(masks) == [f"scan_{i:02d}" for i in range(4)]
    summary = frugalseg.evaluate(
        predictions=tmp_path / "masks", references=labels, out=tmp_path / "scores", report=False
    )
    assert [*summary.targets] == ["liver"]
