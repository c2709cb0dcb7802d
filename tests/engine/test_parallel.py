"""Work on many scans: errors of a scan that does not fit into memory."""

from __future__ import annotations

import pytest
import torch

from frugalseg.engine.parallel import map_cases


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
