"""Work on many scans: errors of a scan that does not fit into memory."""

from __future__ import annotations

import threading

import pytest
import torch

from frugalseg.engine import parallel
from frugalseg.engine.parallel import map_cases, overlap_cases
from frugalseg.errors import DiskError, ScanError


def _full(case):
    raise MemoryError


def _full_by_pytorch(case):
    torch.empty(10**15)


def _full_gpu(case):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")


@pytest.mark.parametrize("full", [_full, _full_by_pytorch, _full_gpu])
@pytest.mark.parametrize(
    ("workers", "said", "cure"),
    [
        (0, "b: not enough memory for it, although it is processed alone", "crop the scan"),
        (1, "b: not enough memory for it, although it is processed alone", "crop the scan"),
        (2, "b: not enough memory for it in parallel with 1 other", "use fewer --workers"),
        (3, "b: not enough memory for it in parallel with 2 others", "use fewer --workers"),
    ],
)
def test_a_scan_that_is_too_large_is_named_with_what_helps(full, workers, said, cure):
    def work(case):
        return full(case) if case == "b" else case.upper()

    results, failures = map_cases(work, {case: case for case in "abc"}, "working", workers)
    assert results == {"a": "A", "c": "C"}
    assert list(failures) == ["b"]
    assert failures["b"].problem == said
    assert cure in failures["b"].cure
    assert ("--workers" in failures["b"].cure) == (workers > 1)


def test_any_other_error_names_the_scan_and_is_raised():
    def work(case):
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="unexpected error in case a: shapes do not match"):
        map_cases(work, {"a": "a"}, "working", 0)


class Stages:
    """Three stages that note what they do; `waits` tells which must have begun before another ends."""

    def __init__(self, waits=()):
        self.begun: dict[tuple[str, str], threading.Event] = {}
        self.waits = dict(waits)
        self.fails: dict[tuple[str, str], Exception] = {}

    def of(self, stage, case):
        return self.begun.setdefault((stage, case), threading.Event())

    def do(self, stage, case):
        self.of(stage, case).set()
        if (stage, case) in self.waits:
            assert self.of(*self.waits[stage, case]).wait(20), f"{stage} {case}: {self.waits[stage, case]} never began"
        if (stage, case) in self.fails:
            raise self.fails[stage, case]

    def read(self, case):
        self.do("read", case)
        return case.upper()

    def work(self, case, source):
        self.do("work", case)
        return 2 * source

    def write(self, case, made):
        self.do("write", case)
        return f"{made}!"

    def run(self, cases="abc"):
        return overlap_cases(self.read, self.work, self.write, list(cases), "working")


DONE = {"a": "AA!", "b": "BB!", "c": "CC!"}


def test_the_next_scan_is_read_and_the_last_result_written_while_one_is_worked_on():
    waits = {("work", "a"): ("read", "b"), ("work", "b"): ("read", "c"), ("write", "a"): ("work", "b")}
    assert Stages(waits).run() == (DONE, {})


def test_no_more_than_one_scan_is_read_ahead():
    stages = Stages()

    def work(case, source):
        for other in "abcd"["abcd".index(case) + 2 :]:
            assert not stages.of("read", other).wait(0.05)
        return source

    overlap_cases(stages.read, work, stages.write, list("abcd"), "working")


def test_where_memory_is_short_no_scan_is_read_ahead(monkeypatch):
    monkeypatch.setattr(parallel, "free_host_memory", lambda: parallel.FREE_TO_READ_AHEAD - 1)
    stages = Stages()

    def work(case, source):
        for other in "abc"["abc".index(case) + 1 :]:
            assert not stages.of("read", other).wait(0.05)
        return stages.work(case, source)

    assert overlap_cases(stages.read, work, stages.write, list("abc"), "working") == (DONE, {})


@pytest.mark.parametrize("stage", ["read", "work", "write"])
@pytest.mark.parametrize("case", ["a", "b", "c"])
def test_a_scan_that_fails_in_any_stage_is_named_and_stops_no_other(stage, case):
    stages = Stages()
    stages.fails[stage, case] = ScanError("damaged", "copy it again")
    results, failures = stages.run()
    assert results == {name: made for name, made in DONE.items() if name != case}
    assert list(failures) == [case]
    stages.fails[stage, case] = MemoryError()
    assert f"{case}: not enough memory" in stages.run()[1][case].problem


@pytest.mark.parametrize("stage", ["read", "work", "write"])
def test_an_error_that_is_no_scans_fault_ends_all(stage):
    stages = Stages()
    stages.fails[stage, "b"] = DiskError("full", "make space")
    with pytest.raises(DiskError):
        stages.run("abcdef")
    assert ("write", "f") not in stages.begun
    stages.fails[stage, "b"] = RuntimeError("shapes do not match")
    with pytest.raises(RuntimeError, match="unexpected error in case b: shapes"):
        stages.run()


def test_what_was_made_before_ctrl_c_is_written():
    stages = Stages(waits={("write", "a"): ("work", "b")})
    stages.fails["work", "b"] = KeyboardInterrupt()  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        stages.run()
    assert ("write", "a") in stages.begun
    assert ("work", "c") not in stages.begun
