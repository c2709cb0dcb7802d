"""What the documentation tells people to type is what the program takes."""

from __future__ import annotations

import re
import shlex
import subprocess
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from benchmarks import doc_tables

from frugalseg.cli import parse
from frugalseg.commands.table import COMMANDS, to_flag

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\((?!http)([^)#]+)\)")


def commands():
    for page in PAGES:
        for block in BLOCK.findall(page.read_text(encoding="utf-8")):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                for start in ("frugalseg", ".venv/bin/frugalseg"):
                    if start in words[:1] or ("-m" in words and start in words):
                        yield pytest.param(words[words.index(start) + 1 :], id=f"{page.name}: {line[:60]}")


def split_off_command(words):
    """The command, of one word or two, and what follows it."""
    count = 2 if " ".join(words[:2]) in COMMANDS else 1
    return " ".join(words[:count]), words[count:]


@pytest.mark.parametrize("words", list(commands()))
def test_commands_and_flags_exist(words):
    name, rest = split_off_command(words)
    known = {to_flag(field.name) for field in fields(COMMANDS[name].options)} | {
        "--config",
        "--help",
        "--json",
        "--plugin",
    }
    assert {word for word in rest if word.startswith("--")} <= known


def test_there_are_commands_to_check():
    assert len(list(commands())) > 8


def test_the_readme_s_table_is_the_program_s():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `([\w -]+)` \| (.+) \|$", readme, re.MULTILINE) == [
        (name, command.summary) for name, command in COMMANDS.items()
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_tables_are_those_of_their_csv_files(page):
    text = page.read_text(encoding="utf-8")
    assert doc_tables.fill(text) == text, "run python benchmarks/doc_tables.py"


def test_no_measured_result_is_a_table_written_by_hand():
    folder = ROOT / "docs" / "explanation"
    found = 0
    for page in (folder / "results.md", folder / "speed.md", *(folder / "results").glob("*.md")):
        text = page.read_text(encoding="utf-8")
        found += len(doc_tables.MARKED.findall(text))
        assert "|---" not in doc_tables.MARKED.sub("", text), page
    assert found > 40


def test_a_figure_that_differs_from_its_csv_file_is_found():
    text = (ROOT / "docs" / "explanation" / "results" / "recipe.md").read_text(encoding="utf-8")
    wrong = text.replace("| scratch | 0.893 ±", "| scratch | 0.894 ±")
    assert wrong != text
    assert doc_tables.fill(wrong) == text


def test_no_old_interval_of_few_patients_is_left_in_the_tables():
    for path in doc_tables.FILES.rglob("*.csv"):
        head = path.read_text(encoding="utf-8").partition("\n")[0].split(",")
        assert ("ci95_low" in head) == ("ci95_kind" in head), path


CLUSTERS = (ROOT / "docs" / "how-to" / "clusters.md").read_text(encoding="utf-8")


def find_block(language: str) -> str:
    """The only block of this language on the page about clusters."""
    (block,) = re.findall(rf"^```{language}\n(.*?)^```", CLUSTERS, re.MULTILINE | re.DOTALL)
    return block


def test_the_script_for_slurm_is_one():
    subprocess.run(["bash", "-n"], input=find_block("bash"), text=True, check=True)


def test_the_manifest_for_kubernetes_runs_a_command():
    job = yaml.safe_load(find_block("yaml"))
    cluster = job["spec"]["rayClusterSpec"]
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        (container,) = group["template"]["spec"]["containers"]
        assert {mount["name"] for mount in container["volumeMounts"]} == {
            volume["name"] for volume in group["template"]["spec"]["volumes"]
        }
    program, name, *words = shlex.split(job["spec"]["entrypoint"])
    assert program == "frugalseg"
    assert parse(name, COMMANDS[name], words).ray == "auto"
