"""Plans of the package are found by name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from frugalseg.cli import main
from frugalseg.errors import OptionError
from frugalseg.studies.plan.shipped import SHIPPED_PLANS, find_plan

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "plans.md"


def test_a_name_is_a_plan_of_the_package_even_beside_a_folder_of_this_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "smoke").mkdir()
    assert find_plan(Path("smoke")) == SHIPPED_PLANS / "smoke.yaml"


def test_a_file_has_precedence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "smoke").write_text("name: mine")
    assert find_plan(Path("smoke")) == Path("smoke")
    assert find_plan(tmp_path / "smoke") == tmp_path / "smoke"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("plans/smoke.yaml", "did you mean the plan `smoke` of the package?"),
        ("smok", "no such file.*choose-slices, frozen, .* or supercl-tables"),
        (".", "is a folder"),
    ],
)
def test_what_is_no_plan_is_refused(given, said):
    with pytest.raises(OptionError, match=re.compile(said, re.DOTALL)):
        find_plan(Path(given))


def test_the_command_takes_a_name(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("BTCV", raising=False)
    assert main(["study", "small-sam", "--out", str(tmp_path / "out")]) == 1
    assert re.search(r"small-sam.yaml, line \d+: .* BTCV is not set", capsys.readouterr().err)


def test_the_documentation_lists_them_all():
    named = re.findall(
        r"^\| `([\w-]+)` \|", PAGE.read_text(encoding="utf-8").partition("## Plans included")[2], re.MULTILINE
    )
    assert sorted(named) == sorted(path.stem for path in SHIPPED_PLANS.glob("*.yaml"))
