"""Weights and services that the pages use, as small stand-ins."""

from __future__ import annotations

from dataclasses import replace

import huggingface_hub
import pytest

from frugalseg.weights.catalogue import CATALOGUE
from tests.docs.given import Cupboard
from tests.sharing.test_publish import FakeHub


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """What pages need, made when first asked for."""
    return Cupboard(tmp_path_factory.mktemp("cupboard"))


@pytest.fixture
def cupboard(made, monkeypatch):
    """The same, with weights of a tiny SAM under the name litemedsam, for this test only."""
    monkeypatch.setenv("FRUGALSEG_HOME", str(made.find("weights")))
    # The weights of a test have another SHA-256 than the published ones.
    monkeypatch.setitem(CATALOGUE, "litemedsam", replace(CATALOGUE["litemedsam"], sha256=None))
    return made


@pytest.fixture
def hub(tmp_path_factory, monkeypatch):
    """A Hub that keeps repositories in a folder."""
    monkeypatch.setattr(FakeHub, "place", tmp_path_factory.mktemp("hub"), raising=False)
    monkeypatch.setattr(huggingface_hub, "HfApi", FakeHub)
