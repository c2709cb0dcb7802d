"""Progress of a running command: bars on a terminal, lines in a log file."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import textwrap
import time
from importlib import import_module

import pytest

from frugalseg import cli
from frugalseg.commands import result_lines
from frugalseg.commands.table import COMMANDS, function_name
from frugalseg.engine import progress as room
from frugalseg.engine.progress import Work, format_duration, heartbeat, progress


@pytest.mark.parametrize(
    ("completed", "already", "seconds", "speed", "left"),
    [
        (3, 0, 0.5, "", ""),  # too early
        (2, 0, 5, "", ""),  # too few
        (1, 0, 20, "20.0 s/scan", "33:00"),  # few, but they take long
        (50, 0, 10, "5.0 scans/s", "0:10"),
        (50, 50, 10, "", ""),  # done by an earlier run
        (70, 50, 10, "2.0 scans/s", "0:15"),
        (100, 0, 10, "10.0 scans/s", "0:00"),
    ],
)
def test_speed_and_time_left_are_shown_once_they_are_meaningful(completed, already, seconds, speed, left):
    made = Work("w", 100, "scans", completed, already, begun=time.monotonic() - seconds)
    assert (made.speed, made.left) == (speed, left)


def test_durations():
    assert [format_duration(s) for s in (0, 7.4, 61, 3723)] == ["0:00", "0:07", "1:01", "1:02:03"]


SCRIPT = """
    import time
    from frugalseg.engine.progress import progress, say
    with progress("training", 4, "steps") as bar:
        for step in range(4):
            bar.advance()
            bar.note = "loss 0.5 · validation Dice 0.812 · best 0.833 at step 2"
            with progress("validation [a/b]", 2, "scans") as inner:
                inner.advance()
                time.sleep(0.3)
    say("the end")
"""


def run_on_terminal(code, columns=80):
    """The text that a program shows on a terminal, without control codes."""
    main, side = pty.openpty()
    environment = os.environ | {"COLUMNS": str(columns), "TERM": "xterm", "LINES": "24"}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=side, stderr=side, env=environment)
    os.close(side)
    shown = b""
    try:
        while chunk := os.read(main, 4096):
            shown += chunk
    except OSError:  # the other end is closed
        pass
    assert process.wait() == 0, shown.decode()
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())


def test_bars_fit_80_columns_and_an_inner_bar_disappears():
    shown = run_on_terminal(textwrap.dedent(SCRIPT))
    lines = [line.rstrip("\r") for line in re.split(r"[\r\n]+", shown) if line.strip()]
    assert max(map(len, lines)) <= 80
    assert any(re.match(r"training +━.* 2/4 steps 0:0", line) for line in lines)
    assert "  loss 0.5 · validation Dice 0.812 · best 0.833 at step 2" in lines
    assert any(line.startswith("  validation [a/b] ━") for line in lines)
    assert lines[-1] == "the end"
    assert not lines[-2].startswith("  validation")


def test_in_a_log_file_work_has_one_line_and_inner_work_none():
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT)], capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stderr.splitlines() == ["training: 4 steps in 0:01", "the end"]
    assert not done.stdout


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(room, "SILENCE_S", 0.2)


def test_a_log_file_is_never_long_without_a_line(impatient, capsys):
    with progress("segmenting", 9, "scans") as bar, progress("this scan", 40, "slices") as inner:
        bar.advance()
        inner.advance(12)
        time.sleep(0.9)
    lines = capsys.readouterr().err.splitlines()
    assert 2 <= len(lines) - 1 <= 5
    assert set(lines[:-1]) <= {
        "segmenting: 1 of 9 scans, 0:0" + s + "; this scan: 12 of 40 slices, 0:0" + s for s in "01"
    }


def test_uncounted_work_prints_lines_until_it_ends(impatient, capsys):
    with heartbeat("weights fetch"):
        time.sleep(0.5)
    first = capsys.readouterr().err
    assert "weights fetch: running for 0:0" in first
    time.sleep(0.5)
    assert capsys.readouterr().err == ""


def test_lines_of_the_command_itself_delay_the_next_line(impatient, capsys):
    with heartbeat("evaluate"):
        for _ in range(8):
            room.say("something")
            time.sleep(0.1)
    assert "running for" not in capsys.readouterr().err


def test_failed_work_has_no_line_of_success_and_leaves_no_activity(impatient, capsys):
    with pytest.raises(ValueError, match="broken"), progress("comparing", 3, "scans"):
        raise ValueError("broken")
    time.sleep(0.5)
    assert capsys.readouterr().err == ""
    assert not room._activities


@pytest.mark.parametrize("name", ["evaluate", "weights verify", "sam-mix train", "study status"])
def test_the_command_line_prints_lines_while_a_command_runs(impatient, monkeypatch, capsys, name):
    command = COMMANDS[name]
    monkeypatch.setattr(import_module(command.module), function_name(name), lambda options: time.sleep(0.5))
    monkeypatch.setattr(result_lines, "RESULT_LINES", {})
    assert cli.run(name, None) == 0
    assert f"{name}: running for 0:0" in capsys.readouterr().err


def test_the_log_of_a_batch_system_has_plain_lines_with_the_time_left(tmp_path):
    """Whatever the environment says of colours."""
    code = (
        "import time\nfrom frugalseg.engine.progress import progress\n"
        "with progress('working', 40, 'scans') as bar:\n"
        "    for _ in range(40):\n        time.sleep(0.1)\n        bar.advance()\n"
    )
    environment = {**os.environ, "FRUGALSEG_PROGRESS_SECONDS": "0.5", "FORCE_COLOR": "1", "TERM": "xterm-256color"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert "\r" not in done.stderr
    assert "\x1b" not in done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) >= 4
    assert any(re.fullmatch(r"working: \d+ of 40 scans, 0:0\d, .* scans/s, about 0:0\d left", line) for line in lines)
    assert lines[-1].startswith("working: 40 scans in 0:0")
