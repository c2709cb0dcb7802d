"""The commands that README and docs print are run, page by page, on tiny data; lines that are not say why."""

from __future__ import annotations

import pytest

from tests.docs.blocks import ROOT, find_blocks
from tests.docs.pages import RULES
from tests.docs.run import run_page

RUN = [
    pytest.param(name, rules, id=name, marks=[pytest.mark.long] if rules.long else [])
    for name, rules in RULES.items()
    if not rules.parsed_only
]


@pytest.mark.parametrize(("name", "rules"), RUN)
def test_the_page_runs(name, rules, cupboard, hub, tmp_path, monkeypatch):
    lines = run_page(ROOT / name, rules, cupboard, tmp_path, monkeypatch)
    shell = [block for block in find_blocks(ROOT / name) if block.kind == "shell"]
    assert len(lines) == sum(len(list(block.command_lines())) for block in shell)
    ours = [line for line in lines if "frugalseg " in line.text]
    assert not ours or any(not line.reason for line in ours), "no command of this page is run: state why in its rules"
