"""Slices are embedded ahead, the one on screen first, without delaying prompts on other slices."""

from __future__ import annotations

import threading

import pytest

from frugalseg.annotation.ahead import Ahead
from frugalseg.annotation.prompt_worker import _order_around
from frugalseg.errors import DiskError
from tests.annotation.session import wait_for


class SlowEmbedder:
    """Notes which slices it embeds, each only when it is let go on."""

    def __init__(self, full: bool = False) -> None:
        self.begun: list[int] = []
        self.go_on = threading.Semaphore(0)
        self.full = full

    def embed(self, z: int) -> None:
        self.begun.append(z)
        assert self.go_on.acquire(timeout=20)
        if self.full:
            raise DiskError("the disk is full", "free some space")


def test_the_slice_on_screen_comes_first_then_its_neighbours_outwards():
    assert list(_order_around(1, 5)) == [1, 2, 0, 3, 4]


def test_a_prompt_does_not_wait_for_another_slice_and_holds_the_next_one_back():
    ahead, embedder = Ahead(), SlowEmbedder()
    ahead.look_at(embedder, [3, 4, 5])
    wait_for(lambda: embedder.begun == [3])
    with ahead.paused_for(embedder, 9):  # while slice 3 is not ready
        embedder.go_on.release()
        wait_for(lambda: ahead._current is None)
        assert embedder.begun == [3]
    wait_for(lambda: embedder.begun == [3, 4])
    embedder.go_on.release(5)


def test_a_prompt_on_the_slice_that_is_being_embedded_waits_for_it():
    ahead, embedder = Ahead(), SlowEmbedder()
    ahead.look_at(embedder, [3])
    wait_for(lambda: embedder.begun == [3])
    begun = threading.Event()

    def prompt() -> None:
        with ahead.paused_for(embedder, 3):
            begun.set()

    threading.Thread(target=prompt, daemon=True).start()
    assert not begun.wait(0.3)
    embedder.go_on.release()
    assert begun.wait(20)


@pytest.mark.parametrize("full", [False, True])
def test_another_slice_on_screen_replaces_those_that_wait_also_after_a_full_disk(full):
    ahead, embedder = Ahead(), SlowEmbedder(full)
    ahead.look_at(embedder, [3, 4, 5])
    wait_for(lambda: embedder.begun == [3])
    embedder.go_on.release()
    if full:
        wait_for(lambda: ahead._current is None)
        assert embedder.begun == [3]
    other = SlowEmbedder()
    ahead.look_at(other, [7])
    embedder.go_on.release(5)
    wait_for(lambda: other.begun == [7])
    other.go_on.release()
    ahead.close()
    assert not ahead._thread.is_alive()
