"""Tables and links of the documentation; its code blocks are tested in tests/docs/."""

from __future__ import annotations

import re

import pytest
from benchmarks import doc_tables

from frugalseg.commands.table import COMMANDS
from tests.docs.blocks import PAGES, ROOT

LINK = re.compile(r"\[[^\]]*\]\((?!http)([^)#]+)\)")


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
