"""Handling of Ctrl-C and SIGTERM: a command then ends with one line, even while modules are being imported.

During an import, a KeyboardInterrupt can turn into any other error (NumPy's partly imported module has no `dtype`). So
before the command starts, Ctrl-C ends the process immediately, which leaves no files behind; afterwards it is recorded,
and any exception that follows is reported as an interruption. Trainings and studies collect Ctrl-C and SIGTERM
(`stop_requests`) and write their checkpoints first. Imports nothing heavy.
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
    """Let Ctrl-C end the process immediately, unless a handler of another program is set."""
    if _may_set_handler():
        signal.signal(signal.SIGINT, _exit)


def raise_on_ctrl_c() -> None:
    """Let Ctrl-C raise KeyboardInterrupt and be recorded (see `was_interrupted`)."""
    _received.clear()
    if _may_set_handler():
        signal.signal(signal.SIGINT, _record_and_raise)


def restore_ctrl_c() -> None:
    """Restore Python's own handling of Ctrl-C."""
    if _may_set_handler():
        signal.signal(signal.SIGINT, signal.default_int_handler)


def was_interrupted() -> bool:
    """Whether Ctrl-C was pressed since `raise_on_ctrl_c`."""
    return bool(_received)


def _may_set_handler() -> bool:
    current = signal.getsignal(signal.SIGINT)
    return threading.current_thread() is threading.main_thread() and current in (
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
def stop_requests(on_first: Callable[[], object], on_repeat: Callable[[], object] | None = None) -> Iterator[list[str]]:
    """Collect Ctrl-C and SIGTERM instead of ending the process.

    A repeated SIGTERM is ignored: a batch system may send one to every process, and a study forwards its own. Outside
    the main thread, which alone receives signals, nothing is collected.

    Args:
        on_first: called at the first request.
        on_repeat: called at a repeated Ctrl-C; by default that is collected, too.

    Yields:
        the requests so far, each "Ctrl-C" or "SIGTERM".
    """
    requests: list[str] = []

    def collect(number: int, _: FrameType | None) -> None:
        if requests and number == signal.SIGTERM:
            return
        if requests and on_repeat is not None:
            on_repeat()
        requests.append("Ctrl-C" if number == signal.SIGINT else "SIGTERM")
        if len(requests) == 1:
            on_first()

    with _handle_signals({signal.SIGINT: collect, signal.SIGTERM: collect}):
        yield requests


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """Inside, SIGTERM has the effect of Ctrl-C; a nested `stop_requests` handles both."""

    def stop(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not interrupt the clean-up
        raise KeyboardInterrupt("stopped")

    with _handle_signals({signal.SIGTERM: stop}):
        yield


def raise_keyboard_interrupt() -> None:
    """Raise KeyboardInterrupt, as Ctrl-C does by default."""
    raise KeyboardInterrupt


@contextmanager
def _handle_signals(handlers: Mapping[signal.Signals, Handler]) -> Iterator[None]:
    """Set these signal handlers, and restore the previous ones at the end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
