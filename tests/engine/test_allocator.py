from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from frugalseg.engine.allocator import keep_freed_memory

FAULTS = """
import resource, sys
import numpy as np
from frugalseg.engine.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
np.empty(64 << 20, np.uint8).fill(1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    np.empty(64 << 20, np.uint8).fill(1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="for glibc only")
def test_freed_large_blocks_are_reused_without_new_page_faults():
    """In separate processes, since the setting cannot be undone."""
    fetched, kept = (
        int(subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True).stdout)
        for how in ("give back", "keep")
    )
    assert kept < fetched / 5


def test_other_systems_are_unchanged(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not keep_freed_memory()
