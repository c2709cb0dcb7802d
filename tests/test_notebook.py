"""The notebook of the documentation runs from its first cell to its last, and is committed without outputs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import frugalseg

NOTEBOOK = Path(__file__).resolve().parents[1] / "docs" / "tutorial" / "python.ipynb"


def test_it_is_committed_without_outputs():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells if cell["cell_type"] == "code")


@pytest.mark.long
def test_it_runs(tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    source = str(Path(frugalseg.__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")])))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("MPLBACKEND", "agg")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute(cwd=str(tmp_path))
    shown = {
        "".join(cell["source"]).splitlines()[-1]: output["data"]["text/plain"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output["output_type"] == "execute_result"
    }
    (dice,) = (text for line, text in shown.items() if "dice" in line)
    # A model of so few steps finds most of the liver of phantoms; one that learned nothing has a Dice of 0.
    assert float(dice.split("'dice': ")[1].split(",")[0]) > 0.3
