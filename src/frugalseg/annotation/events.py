"""Server-sent events: what changed, sent to every open page."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any

BEAT_S = 15.0
"""Time between comment lines, by which proxies and tunnels keep the connection."""
WAITING = 1000
"""Events that wait for a page; a page that reads none of so many is disconnected and reads everything again."""


class Events:
    """Sends events from any thread to all connected pages."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queues: dict[asyncio.Queue[str | None], asyncio.AbstractEventLoop] = {}
        self._closed = False

    def send(self, kind: str, content: Mapping[str, Any] = MappingProxyType({})) -> None:
        """Send an event of a kind to all pages, with JSON values."""
        self._put(f"data: {json.dumps({'type': kind, **content})}\n\n")

    def close(self) -> None:
        """End all connections, so that the server can stop."""
        self._closed = True
        self._put(None)

    async def stream(self, hello: str) -> AsyncIterator[str]:
        """The events from now on, as text of a response; `hello` is sent first."""
        queue: asyncio.Queue[str | None] = asyncio.Queue(WAITING)
        with self._lock:
            self._queues[queue] = asyncio.get_running_loop()
        try:
            yield f"data: {hello}\n\n"
            while not self._closed:
                try:
                    text = await asyncio.wait_for(queue.get(), BEAT_S)
                except asyncio.TimeoutError:
                    text = ": still here\n\n"
                if text is None:
                    return
                yield text
        finally:
            with self._lock:
                self._queues.pop(queue, None)

    def _put(self, text: str | None) -> None:
        with self._lock:
            waiting = list(self._queues.items())
        for queue, loop in waiting:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(_offer, queue, text)


def _offer(queue: asyncio.Queue[str | None], text: str | None) -> None:
    """Put an event into a queue; a full one is ended: the page connects again and reads everything."""
    if queue.full():
        while not queue.empty():
            queue.get_nowait()
        text = None
    queue.put_nowait(text)
