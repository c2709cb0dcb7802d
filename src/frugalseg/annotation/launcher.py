"""How the commands of a job are started: as processes of this machine, or elsewhere (`ray_launcher`)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import IO


class Command(ABC):
    """A running command of frugalseg."""

    @abstractmethod
    def poll(self) -> int | None:
        """Its exit status; None while it runs."""

    @abstractmethod
    def interrupt(self) -> None:
        """Ask it to end: a training writes a checkpoint first."""

    @abstractmethod
    def kill(self) -> None:
        """End it at once; nothing where it has ended."""


class Launcher(ABC):
    """Starts commands.

    Attributes:
        threads: CPU threads of each; None for those of the session's options.
    """

    threads: int | None = None

    @abstractmethod
    def start(self, words: Sequence[str], log: IO[bytes]) -> Command:
        """Start a command, given by the words after `frugalseg`; what it prints is appended to the log."""

    def close(self) -> None:  # noqa: B027 - most launchers hold nothing
        """Release what it holds."""


class LocalLauncher(Launcher):
    """Processes of this machine, which end with the server; see `child`."""

    def start(self, words: Sequence[str], log: IO[bytes]) -> Command:
        """See `Launcher.start`."""
        return LocalCommand(words, log)


class LocalCommand(Command):
    """A process."""

    def __init__(self, words: Sequence[str], log: IO[bytes]) -> None:
        self._process = start_child(words, log)

    def poll(self) -> int | None:
        """See `Command.poll`."""
        status = self._process.poll()
        if status is not None and self._process.stdin is not None:
            self._process.stdin.close()
        return status

    def interrupt(self) -> None:
        """See `Command.interrupt`."""
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """See `Command.kill`."""
        if self._process.poll() is None:
            self._process.kill()


def start_child(words: Sequence[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
    """A process that runs a command, and ends with this one."""
    progress = {"FRUGALSEG_PROGRESS_SECONDS": "1", "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}
    # In a group of its own: Ctrl-C reaches only the server, which then stops its jobs.
    return subprocess.Popen(
        [sys.executable, "-m", "frugalseg.annotation.child", *words],
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=log,
        env={**os.environ, **progress},
        start_new_session=True,
    )
