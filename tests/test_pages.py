"""The pages that tell how ours differ from what was published name flags that exist."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from frugalseg.commands import COMMANDS

DOCS = Path(__file__).resolve().parents[1] / "docs"


@pytest.mark.parametrize("page", ["reference/methods.md", "how-to/sam-mix.md"])
def test_every_flag_in_a_table_exists(page):
    known = {field.name.replace("_", "-") for command in COMMANDS.values() for field in fields(command.options)}
    rows = [line for line in (DOCS / page).read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    flags = {flag for row in rows for flag in re.findall(r"`[^`]*--([a-z-]+)", row)}
    assert len(flags) > 5
    assert flags <= known
