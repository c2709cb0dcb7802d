"""Ctrl-C at any moment ends a command with one line, also while modules are being imported.

Inside an import a KeyboardInterrupt comes out as any error (NumPy's half-imported module has no `dtype`). So until the
command begins, Ctrl-C ends the process on the spot, which leaves nothing behind; from then on it is noted, and whatever
comes of it is reported as what it was. Trainings and studies collect Ctrl-C and SIGTERM meanwhile (`stop_requests`), to
write their checkpoints first. Imports nothing heavy.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

STOPPED = 130
"""Exit code of a program that Ctrl-C ended."""

Handler = Callable[[int, FrameType | None], None]

_received: list[int] = []


def exit_on_ctrl_c() -> None:
    """Let Ctrl-C end the process here and now, unless somebody else takes care of it."""
    if _may_set_handler():
        signal.signal(signal.SIGINT, _exit)


def raise_on_ctrl_c() -> None:
    """Let Ctrl-C raise KeyboardInterrupt, and be remembered (see `was_interrupted`)."""
    _received.clear()
    if _may_set_handler():
        signal.signal(signal.SIGINT, _record_and_raise)


def restore_ctrl_c() -> None:
    """Leave Ctrl-C to Python again."""
    if _may_set_handler():
        signal.signal(signal.SIGINT, signal.default_int_handler)


def was_interrupted() -> bool:
    """Whether Ctrl-C came since `raise_on_ctrl_c`."""
    return bool(_received)


def _may_set_handler() -> bool:
    there = signal.getsignal(signal.SIGINT)
    return threading.current_thread() is threading.main_thread() and there in (
        signal.default_int_handler,
        _exit,
        _record_and_raise,
    )


def _exit(_: int, __: FrameType | None) -> None:
    os.write(2, b"stopped\n")
    os._exit(STOPPED)


def _record_and_raise(number: int, _: FrameType | None) -> None:
    _received.append(number)
    raise KeyboardInterrupt


@contextmanager
def stop_requests(tell: Callable[[], object], again: Callable[[], object] | None = None) -> Iterator[list[str]]:
    """Collect Ctrl-C and SIGTERM instead of dying of them.

    A second SIGTERM changes nothing: a batch system may send one to every process, and a study then hands on its own.
    In another thread than the main one, which no signal reaches, nothing is collected.

    Args:
        tell: called at the first request.
        again: called at a Ctrl-C after it; by default that is collected, too.

    Yields:
        what was asked so far, "Ctrl-C" or "SIGTERM" each.
    """
    requests: list[str] = []

    def note(number: int, _: FrameType | None) -> None:
        if requests and number == signal.SIGTERM:
            return
        if requests and again is not None:
            again()
        requests.append("Ctrl-C" if number == signal.SIGINT else "SIGTERM")
        if len(requests) == 1:
            tell()

    with _handle_signals({signal.SIGINT: note, signal.SIGTERM: note}):
        yield requests


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """SIGTERM ends what runs meanwhile as Ctrl-C would; `stop_requests` inside takes both over."""

    def stop(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not break off what the first one began
        raise KeyboardInterrupt("stopped")

    with _handle_signals({signal.SIGTERM: stop}):
        yield


def raise_keyboard_interrupt() -> None:
    """End at once, as Ctrl-C does by itself."""
    raise KeyboardInterrupt


@contextmanager
def _handle_signals(handlers: Mapping[signal.Signals, Handler]) -> Iterator[None]:
    """Handle these signals so, and afterwards as before."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
