"""Every command that fills a folder can be killed at any file operation and finished by the same command."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.scans import write_cohort

BEGINNING = """\
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from tests.killing import kill_everywhere
root, scans = map(Path, sys.argv[1:])
again, before = None, lambda folder: folder.mkdir()
"""
END = """
print(kill_everywhere(root, work, again, before))
"""

PREPARE = """
from frugalseg.dataset.prepare import prepare
from frugalseg.options import PrepareOptions
def options(folder, **more):
    given = {"images": scans / "images", "labels": scans / "labels", "target": ["liver=6"], "size": 32, "workers": 0}
    return PrepareOptions(out=folder / "store", **given | more)
"""

PROGRAMS = {
    "prepare": PREPARE + "work = lambda folder: prepare(options(folder))",
    "prepare superpixels": PREPARE
    + """
import shutil
from frugalseg.dataset.superpixels import prepare_superpixels
from frugalseg.options import SuperpixelOptions
made = root / "made"
prepare(options(made))
before = lambda folder: shutil.copytree(made, folder)
work = lambda folder: prepare_superpixels(SuperpixelOptions(data=folder / "store", workers=0))
""",
    "evaluate": """
from frugalseg.evaluation.evaluate import evaluate
from frugalseg.options import EvaluateOptions
def work(folder):
    masks = {"predictions": scans / "labels", "references": scans / "copies", "target": ["liver=6"], "workers": 0}
    evaluate(EvaluateOptions(out=folder / "out", overwrite=True, report=False, **masks))
""",
    "a folder of masks": """
from dataclasses import dataclass
from frugalseg.imaging.find import find_scans
from frugalseg.imaging.read import read_volume
from frugalseg.masks.folder import MaskFolder, Words
from tests.masks.function_work import FunctionMaskWork
from frugalseg.records.predictions import CaseRecord, PredictionRecord
@dataclass
class Options:
    out: Path
    overwrite: bool = False
    resume: str = "auto"
    output_type: str = "scan"
    segment_codes: Path | None = None
    preview: bool = False
def work(folder):
    record = PredictionRecord(model="m", roles={})
    masks = MaskFolder.claim(Options(folder / "out"), find_scans(scans / "labels"), record, ("model",), Words(*"abcd"))
    masks.fill(FunctionMaskWork(lambda case, path: (read_volume(path), CaseRecord())), "cpu")
""",
    "weights import": """
import os
from frugalseg.options import WeightsImportOptions
from frugalseg.weights.commands import weights_import
from safetensors.torch import save_file
for version in (1, 2):
    save_file({"w": torch.full((4,), float(version))}, root / f"weights{version}.safetensors")
def bring(folder, version):
    os.environ["FRUGALSEG_HOME"] = str(folder)
    weights_import(WeightsImportOptions(file=root / f"weights{version}.safetensors", name="mine"))
def before(folder):
    folder.mkdir()
    bring(folder, 1)
work = lambda folder: bring(folder, 2)
""",
}


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    root = tmp_path_factory.mktemp("scans")
    write_cohort(root, 2, shape=(16, 16, 3))
    shutil.copytree(root / "labels", root / "copies")
    return root


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_was_killed_is_finished_by_the_same_command(tmp_path, scans, name):
    done = run_program(BEGINNING + PROGRAMS[name] + END, tmp_path, scans)
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout.split()[-1]) > 5


def run_program(program: str, *arguments: Path) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).resolve().parents[1]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
    environment["PYTHONPATH"] = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
