"""Which package may import which. Data flows down this table; nothing flows back up."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "frugalseg"

EVERYWHERE = {"_version", "errors", "text"}
"""Modules that every package may import; they import none."""

ALLOWED: dict[str, str] = {
    "options": "",
    "plugins": "",
    "interrupts": "",
    "engine": "options interrupts",
    "imaging": "engine",
    "records": "options plugins engine imaging",
    "phantoms": "engine imaging",
    "dataset": "options engine imaging records",
    "models": "options plugins engine records",
    "weights": "options engine records models",
    "masks": "options engine imaging records dataset",
    "confidence": "options engine imaging records masks",
    "promptable": "options plugins engine imaging records models weights",
    "pretraining": "options plugins engine records dataset models",
    "features": "options engine records dataset models promptable",
    "segmentation": "options plugins engine imaging records dataset models masks features confidence",
    "refinement": "options engine imaging records dataset masks confidence promptable",
    "propagation": "options engine imaging records dataset masks confidence promptable refinement",
    "sam_mix": "options engine imaging records dataset models masks promptable segmentation",
    "sharing": "options engine imaging records models weights masks segmentation",
    "evaluation": "options plugins engine imaging records dataset confidence pretraining",
    "commands": "options plugins engine imaging records phantoms dataset models masks confidence promptable "
    "pretraining segmentation refinement propagation sam_mix evaluation",
    "studies": "options plugins interrupts engine imaging records phantoms dataset models weights masks promptable "
    "pretraining segmentation refinement propagation sam_mix evaluation commands",
    "suggestion": "options engine records dataset models masks confidence segmentation studies",
    "diagnosis": "options engine weights",
    "annotation": "options interrupts engine imaging records phantoms dataset weights promptable",
    "cli": "plugins interrupts engine commands",
}
"""Package → what it may import, beside itself and `EVERYWHERE`, from the first step of the data to the last."""

TOP = {"__init__", "__main__"}
"""What a user imports or runs; nothing inside imports these."""


def imports(source: Path = SOURCE) -> Iterator[tuple[Path, str, str]]:
    """Every import of one package by another: file, its package, and the module it imports."""
    modules = {module_name(path, source) for path in source.rglob("*.py")}
    for path in sorted(source.rglob("*.py")):
        own = package_of(module_name(path, source))
        for module in imported_by(path, modules):
            if package_of(module) != own:
                yield path, own, module


def module_name(path: Path, source: Path) -> str:
    parts = path.relative_to(source).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def package_of(module: str) -> str:
    return module.split(".")[0]


def imported_by(path: Path, modules: set[str]) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (a.name.removeprefix("frugalseg.") for a in node.names if a.name.startswith("frugalseg."))
        elif isinstance(node, ast.ImportFrom) and re.match(r"frugalseg(\.|$)", node.module or ""):
            base = (node.module or "").removeprefix("frugalseg").lstrip(".")
            for alias in node.names:
                full = f"{base}.{alias.name}".lstrip(".")
                yield full if full in modules else base


def forbidden(source: Path = SOURCE) -> list[str]:
    """What imports what it may not, as the two files."""
    found = []
    for path, own, module in imports(source):
        if own not in TOP and package_of(module) not in {*EVERYWHERE, *ALLOWED.get(own, "").split()}:
            target = module.replace(".", "/") + (
                ".py" if (source / f"{module.replace('.', '/')}.py").is_file() else "/"
            )
            found.append(f"{path.relative_to(source)} imports {target}")
    return found


def test_packages_import_only_what_the_table_allows():
    assert forbidden() == []


def test_the_table_is_free_of_cycles_and_names_no_package_that_is_not_there():
    tuple(TopologicalSorter({name: allowed.split() for name, allowed in ALLOWED.items()}).static_order())
    there = {path.stem for path in SOURCE.iterdir() if path.is_dir() or path.suffix == ".py"} - {"__pycache__"}
    assert set(ALLOWED) | EVERYWHERE | TOP == there


def test_nothing_is_allowed_that_nothing_needs():
    used = {(own, package_of(module)) for _, own, module in imports()}
    unused = {(own, other) for own, allowed in ALLOWED.items() for other in allowed.split()} - used
    assert unused == set()


def test_a_forbidden_import_is_found_with_both_files(tmp_path):
    (tmp_path / "imaging").mkdir()
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "run.py").write_text("")
    (tmp_path / "imaging" / "read.py").write_text("def f():\n    from frugalseg.studies.run import study\n")
    (tmp_path / "imaging" / "find.py").write_text("from frugalseg.studies import run\nfrom frugalseg import errors\n")
    (tmp_path / "errors.py").write_text("")
    assert forbidden(tmp_path) == [
        "imaging/find.py imports studies/run.py",
        "imaging/read.py imports studies/run.py",
    ]


def test_no_two_files_import_each_other():
    """Not even inside functions or for types alone."""
    modules = {module_name(path, SOURCE) for path in SOURCE.rglob("*.py")}
    graph = {
        module_name(path, SOURCE): set(imported_by(path, modules)) - {module_name(path, SOURCE)}
        for path in SOURCE.rglob("*.py")
        if path.parent != SOURCE
    }
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the files


def test_contributing_prints_the_same_table():
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    printed = dict(re.findall(r"^\| `(\w+)/?` \| [^|]+ \| ([^|]*) \|$", page, re.MULTILINE))
    assert {name: set(allowed.replace(",", " ").split()) for name, allowed in printed.items()} == {
        name: set(allowed.split()) for name, allowed in ALLOWED.items()
    }


@pytest.mark.parametrize("name", ["evaluate", "demo", "finetune", "predict", "study", "report"])
def test_a_command_is_no_package(name):
    assert not (SOURCE / name).exists()
