"""Work that is killed at each of its file operations, one after the other, and then done again.

Run as a program of its own, which has imported everything and forks for each try: a real SIGKILL, no exception that a
`finally` could tidy up after. See `test_killed_anywhere.py`.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

DATE = re.compile(rb"20\d\d-\d\d-\d\dT[\d:+.]+")
CHANGING = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.truncate", "shutil.rmtree"}
"""Audit events of calls that change a folder, beside an `open` for writing."""
Work = Callable[[Path], object]
SAFE = 300
"""No work here takes so many operations: one that never ends by itself is a fault of the test."""

_hooked = {"root": "", "left": -1}


def _kill_in_time(event: str, arguments: tuple[object, ...]) -> None:
    if _hooked["left"] < 0 or not (event in CHANGING or (event == "open" and _writes(arguments))):
        return
    if not any(str(_hooked["root"]) in os.fsdecode(a) for a in arguments if isinstance(a, (str, bytes, os.PathLike))):
        return
    if _hooked["left"] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    _hooked["left"] -= 1


def _writes(arguments: tuple[object, ...]) -> bool:
    flags = arguments[2]
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


sys.addaudithook(_kill_in_time)
os.fsync = lambda fd: None  # the kernel outlives the child and keeps what it wrote; a disk is slow


def killed(work: Callable[[], object], root: Path, operation: int) -> bool:
    """Do the work in a child that is killed before so many file operations within `root`; False where it ended first.

    Negative: it is not killed. A child that fails ends the program.
    """
    child = os.fork()
    if child == 0:
        code = 1
        try:
            _hooked.update(root=str(root), left=operation)
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL, status
        return True
    assert os.waitstatus_to_exitcode(status) == 0, f"the work failed at operation {operation}"
    return False


def kill_everywhere(
    root: Path, work: Work, again: Work | None = None, before: Work = lambda folder: folder.mkdir()
) -> int:
    """Do `work` in a folder of its own, killed at each operation in turn, and `again` until its end: always the same.

    Args:
        root: of the folders.
        work: what is killed.
        again: what finishes it; by default the same.
        before: what makes the folder.

    Returns:
        How many operations there were.
    """
    again = again or work
    whole = root / "whole"
    before(whole)
    work(whole)  # in this process, so that no child has to import what the work needs
    expected = content(whole)
    for operation in range(SAFE):
        folder = root / f"killed-{operation:03d}"
        before(folder)
        if not killed(lambda: work(folder), folder, operation):  # noqa: B023 - it is called at once
            return operation
        assert not killed(lambda: again(folder), folder, -1)  # noqa: B023
        assert content(folder) == expected, f"killed before operation {operation}: {differing(folder, whole)}"
    raise AssertionError(f"more than {SAFE} operations")


def content(folder: Path) -> dict[str, bytes]:
    """File → bytes with the folder's own name taken out; empty folders too. Locks are no content, nor is the time."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.name != ".lock":
            data = b"" if path.is_dir() else path.read_bytes().replace(str(folder).encode(), b"HERE")
            found[str(path.relative_to(folder))] = DATE.sub(b"now", data)
    return found


def differing(one: Path, other: Path) -> list[str]:
    """Names of what is not the same."""
    first, second = content(one), content(other)
    return sorted(name for name in first | second if first.get(name) != second.get(name))
