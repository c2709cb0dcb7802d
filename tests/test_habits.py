"""Files for people and programs around the code agree with it, and with each other."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
import yaml

from frugalseg._version import __version__
from tests.project import PROJECT, PYPROJECT, ROOT

WORKFLOW = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8"))
HOOKS = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def commands() -> list[str]:
    """Every command that the workflow runs."""
    steps = [step for job in WORKFLOW["jobs"].values() for step in job["steps"]]
    return [line for step in steps for line in step.get("run", "").splitlines()]


def test_the_tests_run_on_every_system_and_on_every_python_that_the_package_names():
    matrix = WORKFLOW["jobs"]["tests"]["strategy"]["matrix"]
    assert {system.partition("-")[0] for system in matrix["system"]} == {"ubuntu", "macos", "windows"}
    named = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", line)]
    assert matrix["python"] == named
    assert f">={matrix['python'][0]}" == PROJECT["requires-python"]


def test_every_installation_of_the_tests_uses_the_constraints():
    installs = [line for line in commands() if re.search(r"pip install .*(-e|whl)", line)]
    assert len(installs) == 4
    for line in installs:
        assert "-c constraints.txt" in line or '-c "$GITHUB_WORKSPACE/constraints.txt"' in line or "uv pip" in line


def test_the_lowest_versions_are_tested_on_the_lowest_python():
    job = WORKFLOW["jobs"]["lowest"]
    (python,) = [step["with"]["python-version"] for step in job["steps"] if "setup-python" in step.get("uses", "")]
    assert f">={python}" == PROJECT["requires-python"]
    assert any("--resolution lowest-direct" in step.get("run", "") for step in job["steps"])


def test_the_workflow_can_only_read():
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert all("timeout-minutes" in job for job in WORKFLOW["jobs"].values())


def test_make_targets_that_are_named_exist():
    targets = set(re.findall(r"^([\w-]+):", MAKEFILE, re.MULTILINE))
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    lines = [*commands(), *(line for page in pages for line in page.read_text(encoding="utf-8").splitlines())]
    # After the target come a comment, another target, a variable, or the end.
    named = {
        target for line in lines for target in re.findall(r"(?:^|`)make ([\w-]+)(?= {2,}|`| [a-z-]+$| ARGS|$)", line)
    }
    assert {"test", "demo", "wheel", "coverage", "web"} <= named <= targets


def test_pre_commit_runs_what_make_lint_runs():
    hooks = [hook for repo in HOOKS["repos"] for hook in repo["hooks"]]
    recipe = re.search(r"^lint: install\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    assert recipe
    linted = [line.removeprefix("\t$(BIN)/").removesuffix(" --check") for line in recipe[1].splitlines()]
    assert linted == ["ruff check", "ruff format", "mypy"]
    for command in linted:
        assert any(hook["entry"].startswith(command) for hook in hooks), command
    assert all(hook["language"] == "system" for hook in hooks), "the versions that constraints.txt pins"


@pytest.mark.skipif(shutil.which("pre-commit") is None, reason="pre-commit is not installed")
def test_pre_commit_accepts_its_configuration():
    subprocess.run(["pre-commit", "validate-config"], cwd=ROOT, check=True)


def test_the_citation_is_of_this_version_and_this_project():
    assert CITATION["cff-version"] == "1.2.0"
    assert (CITATION["version"], CITATION["license"]) == (__version__, PROJECT["license"])
    assert CITATION["repository-code"] == PROJECT["urls"]["Homepage"]
    assert [author["name"] for author in CITATION["authors"]] == [author["name"] for author in PROJECT["authors"]]
    assert {"message", "title", "type", "abstract"} <= CITATION.keys()


@pytest.mark.parametrize("name", ["bug_report.yml", "idea.yml"])
def test_issue_forms_ask_something_that_must_be_answered(name):
    form = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / name).read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= form.keys()
    kinds = {"markdown", "textarea", "input", "dropdown", "checkboxes"}
    assert all(part["type"] in kinds for part in form["body"])
    asked = [part for part in form["body"] if part["type"] != "markdown"]
    assert len({part["id"] for part in asked}) == len(asked)
    assert all(part["attributes"]["label"] for part in asked)
    assert any(part.get("validations", {}).get("required") for part in asked)


def test_a_bug_report_asks_for_the_doctor_and_no_scans():
    text = (ROOT / ".github" / "ISSUE_TEMPLATE" / "bug_report.yml").read_text(encoding="utf-8")
    assert "frugalseg doctor" in text
    assert "Never attach scans of patients" in text


def test_coverage_is_of_the_package():
    assert PYPROJECT["tool"]["coverage"]["run"]["source"] == ["frugalseg"]
    assert "--cov" in MAKEFILE
