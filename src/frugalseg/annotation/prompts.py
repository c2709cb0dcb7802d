"""Prompts of the page, answered by a process with the promptable model; it starts with the server."""

from __future__ import annotations

import multiprocessing
import threading
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from frugalseg.annotation.prompt_requests import Focus, OpenScan, PromptAnswer, PromptRequest
from frugalseg.annotation.scans import Scans
from frugalseg.errors import FrugalsegError
from frugalseg.weights.catalogue import CATALOGUE
from frugalseg.weights.folder import find_installed, install_instructions

PATIENCE_S = 120.0
"""Longest time that a prompt may take, the model's start and the encoding of a large slice included."""

CLOSING_S = 1.0
"""Time that a prompt has to be answered when the server ends."""


class PromptError(FrugalsegError):
    """Boxes and points cannot be used: the model is missing, or failed."""


class Prompter:
    """The process, and what is missing if there is none.

    Args:
        model: as given by --model.
        device, threads: of the process.
        scans: of the session.
        cache: folder of embeddings.
    """

    def __init__(self, model: str, device: str, threads: int | None, scans: Scans, cache: Path) -> None:
        self.model, self._device, self._threads, self._scans, self._cache = model, device, threads, scans, cache
        self._lock = threading.Lock()
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None
        self._wanted: Focus | None = None
        self._closed = False

    def missing(self) -> tuple[str, str]:
        """Why the model cannot be used, and how to install it; both empty where it can."""
        if self.model in find_installed() or (self.model not in CATALOGUE and Path(self.model).expanduser().exists()):
            return "", ""
        known = self.model in CATALOGUE
        hint = install_instructions(self.model) if known else "give --model a name from `frugalseg weights list`"
        return f"boxes and points need the weights {self.model}, which are not installed", hint

    def start(self) -> None:
        """Start the process, in the background; nothing without a model."""
        if not self.missing()[0]:
            threading.Thread(target=self._start, name="prompter", daemon=True).start()

    def _start(self) -> None:
        with self._lock, suppress(OSError, EOFError, PromptError):  # a prompt tries again, and says what is wrong
            self._connect()

    def focus(self, case: str, z: int) -> None:
        """Embed the slice on screen and those around it, in the background; nothing without a model."""
        if self.missing()[0]:
            return
        waiting, self._wanted = self._wanted, Focus(self._open_scan(case), z)
        if waiting is None:
            threading.Thread(target=self._send_focus, name="focus", daemon=True).start()

    def _send_focus(self) -> None:
        """Tell the process, once it is started and free, which slice is on screen by then."""
        with self._lock:
            wanted, self._wanted = self._wanted, None
            try:
                if wanted is not None:
                    self._connect().send(wanted)
            except (OSError, EOFError):
                self._end()
            except PromptError:  # a prompt says what is wrong
                return

    def ask(
        self,
        case: str,
        z: int,
        box: tuple[float, float, float, float] | None,
        points: tuple[tuple[float, float, int], ...],
        previous: bool,
    ) -> PromptAnswer:
        """The mask of a prompt.

        Raises:
            PromptError: the model is missing, or the process failed.
        """
        problem, cure = self.missing()
        if problem:
            raise PromptError(problem, cure)
        request = PromptRequest(self._open_scan(case), z, box, points, previous)
        with self._lock:
            answer = self._exchange(request)
        if answer.mask is None:
            raise PromptError(answer.message, answer.hint)
        return answer

    def close(self) -> None:
        """End the process, also while it loads the model."""
        self._closed = True
        if not self._lock.acquire(timeout=CLOSING_S):
            if self._process is not None:
                self._process.kill()
            self._lock.acquire()
        self._end()
        self._lock.release()

    def _open_scan(self, case: str) -> OpenScan:
        path = self._scans.path(case)
        return OpenScan(case, path, self._scans.kept(path))

    def _exchange(self, request: PromptRequest) -> PromptAnswer:
        try:
            connection = self._connect()
            connection.send(request)
            if connection.poll(PATIENCE_S):
                answer = connection.recv()
                assert isinstance(answer, PromptAnswer)
                return answer
            self._end()
            return PromptAnswer(message=f"{self.model} has not answered in {PATIENCE_S:.0f} s", hint="try again")
        except (OSError, EOFError):
            self._end()
            return PromptAnswer(
                message=f"the process of {self.model} ended, most likely because memory ran out",
                hint="try again, or close other programs",
            )

    def _connect(self) -> Connection:
        """The connection to the process, which is started where none runs; raises `PromptError` if it cannot start."""
        if self._connection is not None and self._process is not None and self._process.is_alive():
            return self._connection
        self._end()
        if self._closed:
            raise PromptError("the server is ending", "start it again")
        # A new interpreter: forking a process with threads may hang.
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(
            target=_run, args=(other, self.model, self._device, self._threads, self._cache), daemon=True
        )
        self._process.start()
        other.close()
        started = self._connection.recv()
        if started.message:
            self._end()
            raise PromptError(started.message, started.hint)
        return self._connection

    def _end(self) -> None:
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            self._process.join(timeout=2)
            self._process.kill()
        self._connection = self._process = None


def _run(connection: Connection, model: str, device: str, threads: int | None, cache: Path) -> None:
    from frugalseg.annotation.prompt_worker import run_worker  # PyTorch is imported in that process only

    run_worker(connection, model, device, threads, cache)
