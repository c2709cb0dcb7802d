"""Ctrl-C at any moment ends a command with one line, also while modules are being imported.

Inside an import a KeyboardInterrupt comes out as any error (NumPy's half-imported module has no `dtype`). So until the
command begins, Ctrl-C ends the process on the spot, which leaves nothing behind; from then on it is noted, and whatever
comes of it is reported as what it was. Imports nothing heavy.
"""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType

STOPPED = 130
"""Exit code of a program that Ctrl-C ended."""

_asked: list[int] = []


def leave_at_once() -> None:
    """Let Ctrl-C end the process here and now, unless somebody else takes care of it."""
    if _is_ours_to_set():
        signal.signal(signal.SIGINT, _leave)


def note_and_raise() -> None:
    """Let Ctrl-C raise KeyboardInterrupt, and be remembered (see `asked`)."""
    _asked.clear()
    if _is_ours_to_set():
        signal.signal(signal.SIGINT, _note)


def as_before() -> None:
    """Leave Ctrl-C to Python again."""
    if _is_ours_to_set():
        signal.signal(signal.SIGINT, signal.default_int_handler)


def asked() -> bool:
    """Whether Ctrl-C came since `note_and_raise`."""
    return bool(_asked)


def _is_ours_to_set() -> bool:
    there = signal.getsignal(signal.SIGINT)
    return threading.current_thread() is threading.main_thread() and there in (
        signal.default_int_handler,
        _leave,
        _note,
    )


def _leave(_: int, __: FrameType | None) -> None:
    os.write(2, b"stopped\n")
    os._exit(STOPPED)


def _note(number: int, _: FrameType | None) -> None:
    _asked.append(number)
    raise KeyboardInterrupt
