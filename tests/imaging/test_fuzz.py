"""A few hundred corrupted files end no process, hang none, and are read or refused by a `ScanError`.

`python -m tests.imaging.fuzz_readers` reads ten thousand.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from tests.imaging import fuzz_readers
from tests.imaging.fuzz_readers import CRASH, FAULTS, HANG, OTHER, READ, REFUSED, Reader, read_one, run, table
from tests.imaging.mutations import mutate, originals

pytest.importorskip("resource", reason="limits of memory are set as on Linux and macOS")


def test_corrupted_files_are_read_or_refused() -> None:
    results = run(files=510, seed=11)
    assert [r for r in results if r.outcome in FAULTS] == []
    # Some are refused and some are read, so that the corruption has an effect but not always.
    for kind in {r.kind for r in results}:
        assert {r.outcome for r in results if r.kind == kind} == {READ, REFUSED}, table(results)


def test_the_whole_files_are_read_and_a_seed_always_corrupts_them_alike(tmp_path: Path) -> None:
    for number, original in enumerate(originals(tmp_path)):
        path = original.write(tmp_path / str(number), original.content)
        assert read_one(path) == (READ, ""), original.name
        corrupted = [mutate(original, np.random.default_rng([5, number])) for _ in range(2)]
        assert corrupted[0] == corrupted[1]


def _fault(path: Path) -> tuple[str, str]:
    if path.name == "crash":
        os.abort()
    if path.name == "hang":
        time.sleep(60)
    return OTHER, "a name"


def _serve_faults(pipe: object, memory: int) -> None:
    fuzz_readers.read_one = _fault
    fuzz_readers.serve(pipe, memory)  # type: ignore[arg-type]


def test_crashes_and_hangs_are_counted_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Reader, "_target", staticmethod(_serve_faults))
    reader = Reader(timeout=20, memory=fuzz_readers.MEMORY)
    assert reader.read(Path("crash")) == (CRASH, "exit code -6")
    assert reader.read(Path("other")) == (OTHER, "a name")
    reader.timeout = 1
    assert reader.read(Path("hang"))[0] == HANG
    reader.timeout = 20
    assert reader.read(Path("other")) == (OTHER, "a name")
    reader.close()
