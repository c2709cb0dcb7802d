"""Embeds slices ahead of the prompts on them, in a thread, so that no prompt waits for the slice of another one."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

from frugalseg.errors import FrugalsegError


class SliceEmbedder(Protocol):
    """What embeds a slice and keeps it in a cache."""

    def embed(self, z: int) -> None:
        """Embed slice `z`; nothing where it is embedded already."""


class Ahead:
    """The slices to embed next, and the thread that does it."""

    def __init__(self) -> None:
        self._state = threading.Condition()
        self._embedder: SliceEmbedder | None = None
        self._waiting: deque[int] = deque()
        self._current: tuple[SliceEmbedder, int] | None = None
        self._paused = self._ended = False
        self._thread = threading.Thread(target=self._run, name="ahead", daemon=True)
        self._thread.start()

    def look_at(self, embedder: SliceEmbedder, slices: Iterable[int]) -> None:
        """Embed these slices next, instead of those that still wait."""
        with self._state:
            self._embedder, self._waiting = embedder, deque(slices)
            self._state.notify_all()

    @contextmanager
    def paused_for(self, embedder: SliceEmbedder, z: int) -> Iterator[None]:
        """No further slice is begun in this context. It begins at once, or if slice `z` is being embedded, after it."""
        with self._state:
            self._paused = True
            self._state.wait_for(lambda: self._current != (embedder, z))
        try:
            yield
        finally:
            with self._state:
                self._paused = False
                self._state.notify_all()

    def close(self) -> None:
        """End the thread, after the slice that is being embedded: a process must not end in the midst of it."""
        with self._state:
            self._ended = True
            self._state.notify_all()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._state:
                self._state.wait_for(lambda: self._ended or (self._waiting and not self._paused))
                if self._ended:
                    return
                assert self._embedder is not None
                embedder, z = self._current = self._embedder, self._waiting.popleft()
            try:
                embedder.embed(z)
            except FrugalsegError:  # the disk is full, for example: a prompt says so
                with self._state:
                    self._waiting.clear()
            finally:
                with self._state:
                    self._current = None
                    self._state.notify_all()
