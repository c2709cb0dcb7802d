"""Checks of blocks without running them: the real parsers read every line, and every input is there by then."""

from __future__ import annotations

import csv
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from frugalseg.cli import parse
from frugalseg.commands.table import COMMANDS
from frugalseg.errors import FrugalsegError
from frugalseg.evaluation.group_table import read_group_table
from frugalseg.imaging.segments.codes import find_codes
from frugalseg.imaging.segments.kinds import Segment, label_values
from frugalseg.studies.plan.reader import read_plan
from frugalseg.studies.plan.shipped import SHIPPED_PLANS
from frugalseg.weights.catalogue import CATALOGUE
from tests.docs.blocks import ROOT, Block, UnknownBlockError, split_off_command

OUTPUTS = {"out", "cache"}
"""Options that name what a command writes; all other paths are read."""


@dataclass
class Folder:
    """What exists where the commands of a page run.

    Attributes:
        names: files and folders, and what is in them.
    """

    names: set[str] = field(default_factory=set)

    def holds(self, path: Path) -> bool:
        """Whether a path, or a folder that it is in, is there."""
        return any(str(one) in self.names for one in (path, *path.parents))


def check_block(block: Block, folder: Folder, scratch: Path) -> int:
    """Check a block, and note what its commands would write; returns the number of things checked.

    Args:
        block: the block.
        folder: what exists before it; afterwards also what its commands write.
        scratch: an empty folder, for the readers of files.
    """
    if block.kind in ("shell", "script"):
        if block.kind == "script":
            subprocess.run(["bash", "-n"], input=block.text, text=True, check=True)
            lines = [words for words in _simple_commands(block) if words[0] == "frugalseg"]
            assert lines, f"{block.place}: the script does not call frugalseg"
        else:
            lines = list(block.command_lines())
        for words in lines:
            check_line(block, words, folder)
        return len(lines)
    CHECKS[block.kind](block, scratch)
    return 1


def _simple_commands(block: Block) -> list[list[str]]:
    text = re.sub(r'"\$(\w+)(:\d+)?"', r"\1\2", block.text)
    return [line.split() for line in text.splitlines() if line.startswith("frugalseg")]


def check_line(block: Block, words: list[str], folder: Folder) -> None:
    """Check a line of a shell block by the rule for its program.

    Raises:
        UnknownBlockError: there is no rule for it.
        AssertionError: the line is wrong.
    """
    program = words[0].removeprefix(".venv/bin/")
    if program not in PROGRAMS:
        raise UnknownBlockError(f"{block.place}: no rule for the program {words[0]}")
    try:
        PROGRAMS[program](words[1:], folder)
    except (AssertionError, FrugalsegError) as error:
        raise AssertionError(f"{block.place}: {' '.join(words)}: {error}") from error


def parse_words(words: list[str]) -> tuple[str, Any]:
    """The command and its options, by the program's own parser; a word … stands for those of the command's example."""
    name, rest = split_off_command(words, COMMANDS)
    assert name in COMMANDS, f"there is no command {name}"
    if rest[:1] == ["…"]:
        example = split_off_command(COMMANDS[name].example.split()[1:], COMMANDS)[1]
        rest = [*example, *rest[1:]]
    return name, parse(name, COMMANDS[name], rest)


def _check_frugalseg(words: list[str], folder: Folder) -> None:
    name, options = parse_words(words)
    for one in fields(options):
        value = getattr(options, one.name)
        paths = [path for path in (value if isinstance(value, list) else [value]) if isinstance(path, Path)]
        for path in paths:
            if one.name in OUTPUTS:
                folder.names.add(str(path))
            elif words[:1] != ["…"] and "…" not in words[1:2]:
                shipped = one.name == "plan" and (SHIPPED_PLANS / f"{path}.yaml").is_file()
                assert shipped or folder.holds(path), f"--{one.name} {path}: no earlier line makes it"
    if name == "annotate" and options.images is not None:
        folder.names.add(f"{options.images}-annotations")


def _check_make(words: list[str], folder: Folder) -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert {word for word in words if not word.startswith("ARGS=")} <= set(targets), "no such target"


def _check_pip(words: list[str], folder: Folder) -> None:
    if words[0] == "download":
        return None if words[-1] == "frugalseg" else _check_download(words, folder)
    if words[:2] == ["install", "torch"]:
        return None
    assert words[0] == "install"
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8").partition("[project.optional-dependencies]")[2]
    extras = re.findall(r"^(\w+) = \[", project.partition("\n[")[0], re.MULTILINE)  # tomllib needs Python 3.11
    named = [match for word in words if (match := re.fullmatch(r"(?:\.|frugalseg)(?:\[([\w,]+)\])?", word))]
    assert named, "neither frugalseg nor this folder is installed"
    for match in named:
        assert set((match[1] or "").split(",")) - {""} <= set(extras), "no such extra"
    if "-c" in words:
        assert (ROOT / words[words.index("-c") + 1]).is_file()
    return None


def _check_python(words: list[str], folder: Folder) -> None:
    if words[:1] == ["-m"]:
        return PYTHON_MODULES[words[1]](words[2:], folder)
    if words[0].startswith("benchmarks/"):
        source = (ROOT / words[0]).read_text(encoding="utf-8")
        for flag in (word for word in words if word.startswith("--")):
            assert f'"{flag}"' in source, f"{words[0]} has no {flag}"
        return None
    assert folder.holds(Path(words[0])), f"{words[0]}: no earlier line makes it"
    return None


def _check_download(words: list[str], folder: Folder) -> None:
    requirements = {entry.package.requirement for entry in CATALOGUE.values() if entry.package}
    assert words[0] == "download"
    assert words[-1] in requirements, f"the catalogue has {requirements}"


def _check_launched(words: list[str], folder: Folder) -> None:
    _check_frugalseg(words[words.index("frugalseg") + 1 :], folder)


def _check_container(words: list[str], folder: Folder) -> None:
    """Files that an image is built from are there; the command that one runs is parsed."""
    if words[0] == "build":
        files = [word for word in words if word.startswith("containers/")]
        assert files, "nothing of containers/ is named"
        assert all((ROOT / file).is_file() for file in files), files
        return
    images = [number for number, word in enumerate(words) if word in ("frugalseg", "frugalseg.sif")]
    _check_frugalseg(words[images[0] + 1 :], folder)


def _check_export(words: list[str], folder: Folder) -> None:
    name = words[0].partition("=")[0]
    assert any(f'"{name}"' in path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))


def _check_nothing(words: list[str], folder: Folder) -> None:
    """Another program, of which nothing is known here; or a step that every test has done."""


PYTHON_MODULES: dict[str, Callable[[list[str], Folder], None]] = {
    "venv": _check_nothing,
    "pip": _check_pip,
    "monai.bundle": _check_nothing,
    "frugalseg": _check_frugalseg,
}
PROGRAMS: dict[str, Callable[[list[str], Folder], None]] = {
    "frugalseg": _check_frugalseg,
    "make": _check_make,
    "pip": _check_pip,
    "python": _check_python,
    "python3": _check_python,
    "torchrun": _check_launched,
    "srun": _check_launched,
    "export": _check_export,
    "docker": _check_container,
    "apptainer": _check_container,
    "rattler-build": _check_container,
    ".": _check_nothing,
    "conda": _check_nothing,
    "pre-commit": _check_nothing,
    "ssh": _check_nothing,
    "ray": _check_nothing,
}
"""Program → the check of a line that calls it."""


def _check_kubernetes(block: Block, scratch: Path) -> None:
    job = yaml.safe_load(block.text)
    cluster = job["spec"]["rayClusterSpec"]
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        (container,) = group["template"]["spec"]["containers"]
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in group["template"]["spec"]["volumes"]}
    program, *words = job["spec"]["entrypoint"].split()
    assert program == "frugalseg"
    assert parse_words(words)[1].ray == "auto"


def _check_codes(block: Block, scratch: Path) -> None:
    path = scratch / "codes.csv"
    path.write_text(block.text, encoding="utf-8")
    (row,) = csv.DictReader(block.text.splitlines())
    code = find_codes([row["name"]], path)[row["name"]]
    assert (code.type.value, code.type.meaning) == (row["value"], row["meaning"])


def _check_segment_values(block: Block, scratch: Path) -> None:
    (scratch / "segments.csv").write_text(block.text, encoding="utf-8")
    rows = list(csv.DictReader(block.text.splitlines()))
    segments = [Segment(number, row["name"], None) for number, row in enumerate(rows, start=1)]
    values = label_values(scratch / "p1.dcm", [*segments, Segment(99, "outline of the body", None)])
    assert values == {number: int(row["value"]) for number, row in enumerate(rows, start=1)}


def _check_groups(block: Block, scratch: Path) -> None:
    (scratch / "patients.csv").write_text(block.text, encoding="utf-8")
    cases = [row["case"] for row in csv.DictReader(block.text.splitlines())]
    assert not read_group_table(scratch / "patients.csv", {case: case for case in cases}).left_out


def _check_plan(block: Block, scratch: Path) -> None:
    path = write_plan(block, scratch)
    assert read_plan(path).methods


def write_plan(block: Block, folder: Path) -> Path:
    """The plan of a block, with the folders that it names; a part of a plan is put into `PLAN`."""
    given = yaml.safe_load(block.text)
    if "data" not in given:
        methods = given.get("methods", given)
        tested = {name for method in methods.values() for name in method.get("masks", {})} or {"held-out patients"}
        tests = {name: {"data": "a" if name == "held-out patients" else "b"} for name in tested}
        given = {**PLAN, "tests": tests, "methods": {"scratch": {}, **methods}}
    for place in (*_find_folders(given["data"]), *_find_folders(given["methods"])):
        (folder / place).mkdir(parents=True, exist_ok=True)
    path = folder / "plan.yaml"
    path.write_text(yaml.safe_dump(given), encoding="utf-8")
    return path


def _find_folders(entries: Mapping[str, Any]) -> Iterator[str]:
    for entry in entries.values():
        masks = entry.get("masks", {})
        yield from (entry[key] for key in ("images", "labels") if key in entry)
        yield from masks.values()


PLAN = {
    "data": {name: {"images": f"{name}/images", "labels": f"{name}/labels", "target": ["liver=6"]} for name in "ab"},
    "train": "a",
    "budgets": ["1 scan", "100%"],
}
"""A plan without tests and methods, for blocks that show a part of one."""


def _check_python_code(block: Block, scratch: Path) -> None:
    compile(block.text, block.place, "exec")


CHECKS: dict[str, Callable[[Block, Path], None]] = {
    "Kubernetes": _check_kubernetes,
    "segment codes": _check_codes,
    "segment values": _check_segment_values,
    "groups": _check_groups,
    "plan": _check_plan,
    "python": _check_python_code,
}
"""Kind of a block that is no shell block → its check."""
