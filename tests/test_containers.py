"""Container files and conda recipe copy what exists, install tested versions, and agree with pyproject.toml."""

from __future__ import annotations

import re
import shlex
from fnmatch import fnmatch

import pytest
import yaml

from frugalseg._version import __version__
from tests.project import PROJECT, ROOT

DOCKERFILE = (ROOT / "containers" / "Dockerfile").read_text(encoding="utf-8")
APPTAINER = (ROOT / "containers" / "frugalseg.def").read_text(encoding="utf-8")
RECIPE = yaml.safe_load((ROOT / "containers" / "conda" / "recipe.yaml").read_text(encoding="utf-8"))
BUILT_IN_CONTAINER = {"src/frugalseg/annotation/page"}
CONDA_NAMES = {
    "torch": "pytorch",
    "lightning-fabric": "pytorch-lightning",
    "SimpleITK": "simpleitk",
    "docstring-parser": "docstring_parser",
    "matplotlib": "matplotlib-base",
}
"""Package on PyPI → its name on conda-forge, where they differ."""


def instructions() -> list[tuple[str, list[str]]]:
    """The Dockerfile's instructions with their words."""
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE, flags=re.MULTILINE).replace("\\\n", " ")
    lines = [line.partition(" ") for line in text.splitlines() if line.strip()]
    return [(name, shlex.split(rest)) for name, _, rest in lines]


def last_stage() -> dict[str, list[str]]:
    """Instruction → words of its last occurrence in the stage that becomes the image."""
    found = instructions()
    start = max(i for i, (name, _) in enumerate(found) if name == "FROM")
    return dict(found[start:])


def copied() -> list[str]:
    """Paths of the checkout that the Dockerfile copies."""
    return [
        word
        for name, words in instructions()
        if name == "COPY" and not words[0].startswith("--from")
        for word in words[:-1]
    ]


def is_ignored(path: str) -> bool:
    """Whether .dockerignore leaves a path out: the last line that fits it or a folder around it decides."""
    parts = path.split("/")
    around = ["/".join(parts[: i + 1]) for i in range(len(parts))]
    ignored = False
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        pattern = line.strip().removeprefix("!")
        if pattern and not line.startswith("#") and any(fnmatch(one, pattern) for one in around):
            ignored = not line.startswith("!")
    return ignored


def test_what_docker_copies_exists_and_is_not_ignored():
    assert len(copied()) > 6
    for path in copied():
        assert (ROOT / path).exists(), path
        assert not is_ignored(path), path


@pytest.mark.parametrize("path", ["web/node_modules", "tests", "docs", ".git", "src/frugalseg/annotation/page"])
def test_nothing_else_is_sent_to_docker(path):
    assert is_ignored(path)


@pytest.mark.parametrize("text", [DOCKERFILE, APPTAINER], ids=["Dockerfile", "Apptainer"])
def test_every_installation_uses_the_constraints(text):
    installs = re.findall(r"pip install (.*)", text.replace("\\\n", " "))
    assert len(installs) == 2
    for arguments in installs:
        assert re.match(r"-c \S*constraints\.txt ", arguments)
    assert installs[0].endswith(" torch"), "the CPU build first, so that nothing else brings another"
    assert "whl/cpu" in text


def test_the_image_runs_the_command_and_not_as_root():
    stage = last_stage()
    assert stage["ENTRYPOINT"] == ["[frugalseg]"]
    assert stage["USER"][0].split(":")[0] not in ("root", "0")
    assert stage["COPY"] == ["--from=build", "/opt/frugalseg", "/opt/frugalseg"], "without sources and build tools"


def test_what_apptainer_copies_exists():
    section = re.search(r"^%files\n(.*?)\n\n", APPTAINER, re.MULTILINE | re.DOTALL)
    assert section
    paths = [line.split()[0] for line in section[1].splitlines()]
    assert {"constraints.txt", "pyproject.toml", "README.md", "LICENSE", "src"} == set(paths)
    assert all((ROOT / path).exists() for path in paths)
    assert re.search(r'^%runscript\n\s+exec frugalseg "\$@"', APPTAINER, re.MULTILINE)


def test_the_pythons_of_the_containers_are_the_tested_one():
    tested = re.search(r"Python (3\.\d+), CPU", (ROOT / "constraints.txt").read_text(encoding="utf-8"))
    assert tested
    assert set(re.findall(r"python:(3\.\d+)-", DOCKERFILE + APPTAINER)) == {tested[1]}


def test_the_conda_recipe_needs_what_pyproject_needs():
    def split(line: str) -> tuple[str, set[str]]:
        name, versions = re.fullmatch(r"([\w-]+)\s*(.*)", line).groups()
        return CONDA_NAMES.get(name, name), set(versions.split(","))

    run = [line for line in RECIPE["requirements"]["run"] if not line.startswith("python ")]
    assert dict(map(split, run)) == dict(map(split, PROJECT["dependencies"]))


def test_the_conda_recipe_is_of_this_version_and_its_pythons():
    assert RECIPE["context"]["version"] == __version__
    assert f">={RECIPE['context']['python_min']}" == PROJECT["requires-python"]
    (entry,) = RECIPE["build"]["python"]["entry_points"]
    name, _, function = entry.partition(" = ")
    assert {name: function} == PROJECT["scripts"]
    assert (ROOT / "containers" / "conda" / RECIPE["source"]["path"]).resolve() == ROOT
