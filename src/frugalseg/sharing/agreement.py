"""An exported network compared with the trained one, on the slices of a scan."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from frugalseg.engine.files import sha256
from frugalseg.engine.progress import progress
from frugalseg.errors import RunError
from frugalseg.records.recipe import ExportCheck
from frugalseg.sharing.network import Floats, Run
from frugalseg.text import pluralize

TOLERANCE = 1e-3
"""Largest difference of two probabilities that rounding explains: ten times what was seen on CT."""
TIE = 2e-3
"""Two classes whose probabilities differ by less are equally likely, and rounding may decide."""
SLICES_AT_ONCE = 4


def compare(network: nn.Module, run: Run, squares: Floats, scan: Path) -> ExportCheck:
    """Compare the probabilities of all slices of a scan.

    Args:
        network: the trained one, with the output of the exported one, on a CPU.
        run: the exported one.
        squares: (Z, 2·context + 1, S, S).
        scan: the file of the scan, for the record.

    Raises:
        RunError: the probabilities differ by more than rounding, or the likeliest class where it is no tie.
    """
    largest, different, clear, values = 0.0, 0, 0, 0
    with progress("comparing with the original", len(squares), "slices") as bar:
        for z in range(0, len(squares), SLICES_AT_ONCE):
            batch = squares[z : z + SLICES_AT_ONCE]
            with torch.inference_mode():
                expected: Floats = network(torch.from_numpy(batch)).numpy()
            found = run(batch)
            largest = max(largest, float(np.abs(found - expected).max()))
            other = found.argmax(axis=1) != expected.argmax(axis=1)
            different += int(other.sum())
            clear += int((other & (_margins(expected) > TIE)).sum())
            values += expected.size
            bar.advance(len(batch))
    if clear or not largest <= TOLERANCE:  # NaN is not below it either
        raise RunError(
            f"the exported network differs from the trained one: probabilities by up to {largest:.2g}, "
            f"the likeliest class in {clear} pixels that are no tie",
            "report this, with the versions of PyTorch and of frugalseg; the folder is not to be used",
        )
    return ExportCheck(sha256(scan), values, largest, different)


def describe_check(check: ExportCheck) -> str:
    """The comparison in a sentence."""
    ties = f"differs in {pluralize(check.different_classes, 'pixel')} with a tie"
    return f"{check.values} probabilities differ by at most {check.largest_difference:.2g}, the likeliest class " + (
        ties if check.different_classes else "is the same everywhere"
    )


def _margins(probabilities: Floats) -> npt.NDArray[np.float32]:
    """By how much the likeliest class is ahead of the second, (N, S, S)."""
    ordered = np.partition(probabilities, -2, axis=1)
    margins: npt.NDArray[np.float32] = ordered[:, -1] - ordered[:, -2]
    return margins
