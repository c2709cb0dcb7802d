"""The same work on many scans: what is said of one that does not fit into the memory."""

from __future__ import annotations

import pytest

from frugalseg.engine.parallel import map_cases


def _work(case):
    if case == "b":
        raise MemoryError
    return case.upper()


@pytest.mark.parametrize(
    ("workers", "said", "cure"),
    [
        (0, "b: not enough memory for it, though no other scan is worked on", "crop the scan"),
        (1, "b: not enough memory for it, though no other scan is worked on", "crop the scan"),
        (2, "b: not enough memory for it beside 1 other", "use fewer --workers"),
        (3, "b: not enough memory for it beside 2 others", "use fewer --workers"),
    ],
)
def test_too_large_a_scan_is_told_with_what_helps(workers, said, cure):
    results, failures = map_cases(_work, {case: case for case in "abc"}, "working", workers)
    assert results == {"a": "A", "c": "C"}
    assert list(failures) == ["b"]
    assert failures["b"].problem == said
    assert cure in failures["b"].cure
    assert ("--workers" in failures["b"].cure) == (workers > 1)
