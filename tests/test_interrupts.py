"""Ctrl-C and SIGTERM are collected while checkpoints are written."""

from __future__ import annotations

import signal
import threading

import pytest

from frugalseg.interrupts import raise_keyboard_interrupt, sigterm_as_ctrl_c, stop_requests


@pytest.fixture(autouse=True)
def as_before():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    assert {number: signal.getsignal(number) for number in before} == before


def test_requests_are_collected_and_reported_once_and_a_second_sigterm_is_ignored():
    told = []
    with stop_requests(lambda: told.append("stopping")) as asked:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
            signal.raise_signal(number)
        assert asked == ["SIGTERM", "Ctrl-C"]
    assert told == ["stopping"]


def test_a_second_ctrl_c_can_end_at_once():
    with pytest.raises(KeyboardInterrupt), stop_requests(lambda: None, on_repeat=raise_keyboard_interrupt) as asked:
        signal.raise_signal(signal.SIGINT)
        assert asked == ["Ctrl-C"]
        signal.raise_signal(signal.SIGINT)


def test_sigterm_as_ctrl_c_interrupts_once():
    with pytest.raises(KeyboardInterrupt, match="stopped"), sigterm_as_ctrl_c():
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)  # what ends in order is not broken off


def test_a_training_inside_a_job_handles_sigterm():
    with sigterm_as_ctrl_c(), stop_requests(lambda: None) as asked:
        signal.raise_signal(signal.SIGTERM)
        assert asked == ["SIGTERM"]


def test_no_signal_reaches_another_thread():
    collected: list[list[str]] = []

    def work() -> None:
        with stop_requests(lambda: None) as asked:
            collected.append(asked)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert collected == [[]]
