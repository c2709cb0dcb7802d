"""The tests of the documentation find what is wrong with it: a sample page, broken in every way."""

from __future__ import annotations

import pytest

from tests.docs.blocks import ROOT, UnknownBlockError, find_blocks
from tests.docs.check import Folder, check_block
from tests.docs.pages import RULES, Page
from tests.docs.run import run_page

SAMPLE = """# Sample

```
frugalseg prepare --images scans --labels masks --target liver=6 --out store   # a comment
```

Then

```
frugalseg finetune --data store \\
    --budget "1 scan" --out model
frugalseg predict --model model --images scans --out predictions
```
"""
RULES_OF_SAMPLE = Page({"scans": "scans", "masks": "masks"})
PREPARE = SAMPLE.splitlines()[3]
PREDICT = SAMPLE.splitlines()[11]


def check(tmp_path, text):
    page = tmp_path / "sample.md"
    page.write_text(text, encoding="utf-8")
    folder = Folder({*RULES_OF_SAMPLE.has})
    return [check_block(block, folder, tmp_path) for block in find_blocks(page)]


def test_a_sound_page_is_accepted_and_all_its_lines_are_counted(tmp_path):
    assert check(tmp_path, SAMPLE) == [1, 2]


@pytest.mark.parametrize(
    ("sound", "broken", "message"),
    [
        ("--budget", "--budgett", "no option --budgett"),
        ("--out model", "--steps many --out model", "--steps many: expected a whole number"),
        ("prepare --images", "prepaer --images", "there is no command prepaer"),
        (" --out model", "", "needs --out"),
        ("--model model", "--model modell", "--model modell: no earlier line makes it"),
        (PREPARE, PREDICT, "--model model: no earlier line makes it"),
        ("frugalseg prepare", "make nothing", "no such target"),
    ],
)
def test_a_broken_line_is_found_without_running_it(tmp_path, sound, broken, message):
    assert sound in SAMPLE
    with pytest.raises(AssertionError, match=message):
        check(tmp_path, SAMPLE.replace(sound, broken, 1))


@pytest.mark.parametrize(
    "block",
    [
        "```\ncurl https://example.org\n```\n",
        "```json\n{}\n```\n",
        "```text\nany text\n```\n",
        "```console\n$ frugalseg demo\n```\n",
    ],
)
def test_a_block_without_a_rule_is_refused(tmp_path, block):
    with pytest.raises(UnknownBlockError, match=r"sample.md, line 16: no rule"):
        check(tmp_path, f"{SAMPLE}\n{block}")


def test_a_fence_that_is_not_closed_is_refused(tmp_path):
    with pytest.raises(AssertionError, match="not closed"):
        check(tmp_path, SAMPLE + "\n```\nfrugalseg demo\n")


@pytest.mark.parametrize(
    ("sound", "broken", "message"),
    [
        ("liver=6", "liver=5", "line 4: frugalseg prepare .*: exit code 1"),  # no scan has this value
        ("--images scans --out predictions", "--images masks --out predictions", "line 10: frugalseg predict"),
    ],
)
def test_a_command_that_fails_when_it_runs_is_found(cupboard, tmp_path, monkeypatch, sound, broken, message):
    page, folder = tmp_path / "sample.md", tmp_path / "folder"
    folder.mkdir()
    page.write_text(SAMPLE.replace(sound, broken), encoding="utf-8")
    with pytest.raises(AssertionError, match=message):
        run_page(page, RULES_OF_SAMPLE, cupboard, folder, monkeypatch)


@pytest.mark.parametrize(
    ("sound", "broken"), [("--preset best", "--preset bset"), ("--data store", "--data stores"), ("--out store", "")]
)
def test_a_broken_command_of_the_readme_is_found(tmp_path, sound, broken):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert sound in text
    page = tmp_path / "README.md"
    page.write_text(text.replace(sound, broken), encoding="utf-8")
    folder = Folder({*RULES["README.md"].has})
    with pytest.raises(AssertionError, match=r"README.md, line \d+"):
        for block in find_blocks(page):
            check_block(block, folder, tmp_path)
