"""What the documentation tells people to type is what the program takes: its parsers read each block."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest

from frugalseg.commands.table import COMMANDS, to_flag
from tests.docs.blocks import PAGES, ROOT, find_blocks, name_of
from tests.docs.check import Folder, check_block
from tests.docs.pages import RULES

WITH_BLOCKS = [page for page in PAGES if find_blocks(page)]


def test_every_page_with_blocks_has_rules_and_no_other_has():
    assert {name_of(page) for page in WITH_BLOCKS} == set(RULES)


@pytest.mark.parametrize("page", WITH_BLOCKS, ids=name_of)
def test_every_block_is_read_by_the_program(page, tmp_path):
    rules = RULES[name_of(page)]
    folder = Folder({*rules.has, *rules.files})
    for number, block in enumerate(find_blocks(page)):
        scratch = tmp_path / str(number)
        scratch.mkdir()
        assert check_block(block, folder, scratch) > 0, f"{block.place}: nothing in it was checked"


@pytest.mark.parametrize("page", WITH_BLOCKS, ids=name_of)
def test_no_rule_is_left_over(page):
    rules = RULES[name_of(page)]
    text = "".join(block.text for block in find_blocks(page))
    assert all(part in text for part in rules.parsed)
    assert all(start in text for start in rules.files.values())
    assert all(name in text for name in rules.has)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_flag_in_the_text_exists(page):
    benchmarks = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "benchmarks").glob("*.py"))
    known = {to_flag(field.name) for command in COMMANDS.values() for field in fields(command.options)}
    spans = re.findall(r"`([^`\n]*--[a-z][^`\n]*)`", page.read_text(encoding="utf-8"))
    ours = [span for span in spans if not re.match(r"(pip|ray|srun|torchrun|npm|twine|docker|#SBATCH) ", span)]
    flags = {flag for span in ours for flag in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", span)}
    flags -= {"--bind", "--user", "--shm-size", "--platform", "--python-version"}  # of pip and of containers
    assert flags <= known | {"--config", "--help"} | set(re.findall(r'"(--[a-z-]+)"', benchmarks))
