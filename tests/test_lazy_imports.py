"""No command imports a library that it does not use: a start takes as long as what is imported."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from frugalseg.commands.table import COMMANDS
from tests.scans import write_cohort

CORE = {
    "torch",
    "transformers",
    "SimpleITK",
    "nibabel",
    "pydicom",
    "pandas",
    "scipy",
    "kornia",
    "lightning_fabric",
    "jinja2",
}
"""Libraries that take from 50 ms to seconds."""

SERVER = {"fastapi", "starlette", "uvicorn"}
"""Libraries of the annotation server: only a running server imports them."""

ALONE = {
    "completion": CORE,
    "weights list": CORE,
    "weights fetch": CORE,
    "weights import": CORE,
    "weights verify": CORE,
    "annotate": CORE,
    "doctor": CORE,
    "push": CORE - {"torch"},
    "pull": CORE - {"torch"},
    "export": CORE - {"torch", "scipy"},
    "evaluate": {"torch", "transformers", "SimpleITK", "nibabel", "pydicom", "kornia", "lightning_fabric"},
    "sam-mix evaluate": {"torch", "transformers", "SimpleITK", "nibabel", "pydicom", "kornia", "lightning_fabric"},
    "predict": CORE - {"torch", "scipy"},
    "refine": CORE - {"torch", "scipy"},
    "propagate": CORE - {"torch", "scipy"},
    "prepare": CORE - {"torch", "scipy", "pandas"},
    "prepare superpixels": CORE - {"torch", "scipy", "pandas"},
    "pretrain": {"transformers", "SimpleITK", "nibabel", "pydicom", "lightning_fabric", "jinja2"},
    "finetune": {"transformers", "SimpleITK", "nibabel", "pydicom", "lightning_fabric", "jinja2"},
    "calibrate": CORE - {"torch", "scipy", "pandas"},
    "suggest": CORE - {"pandas", "scipy"},
    "study": {"transformers", "lightning_fabric"},
    "study status": CORE - {"scipy", "pandas"},
    "report": {"transformers", "lightning_fabric"},
    "demo": {"transformers", "lightning_fabric"},
    "sam-mix train": {"SimpleITK", "nibabel", "pydicom"},
    "sam-mix predict": {"SimpleITK", "nibabel", "pydicom"},
}
"""Command → libraries that its module does not import; what a format or an option needs is imported when it comes."""


def imported(code: str, *arguments: str) -> set[str]:
    """The top-level modules that a process has imported after running `code`."""
    tell = "\nimport json, sys\nprint(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    command = [sys.executable, "-c", code + tell, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


RUN = "import sys\nfrom frugalseg.cli import main\nassert main(sys.argv[1:]) == 0"


def test_every_command_has_its_line():
    assert ALONE.keys() == COMMANDS.keys()


@pytest.mark.parametrize("name", COMMANDS)
def test_the_module_of_a_command_imports_only_what_it_needs(name):
    assert imported(f"import {COMMANDS[name].module}") & {*ALONE[name], *SERVER} == set()


@pytest.mark.parametrize("arguments", [["--help"], ["predict", "--help"], ["--version"]])
def test_help_needs_no_library_at_all(arguments):
    assert imported(RUN, *arguments) & {*CORE, "numpy", "yaml", "rich"} == set()


def test_weights_are_listed_without_a_library_for_scans_or_networks():
    assert imported(RUN, "weights", "list") & CORE == set()


def test_evaluating_needs_no_torch(tmp_path):
    _, labels = write_cohort(tmp_path, 2, shape=(16, 16, 4))
    masks = shutil.copytree(labels, tmp_path / "masks")
    flags = ["--predictions", str(masks), "--references", str(labels), "--target", "liver=6"]
    loaded = imported(RUN, "evaluate", *flags, "--out", str(tmp_path / "figures"), "--report=false")
    assert "nibabel" in loaded
    assert loaded & {"torch", "transformers", "SimpleITK", "kornia", "lightning_fabric"} == set()
