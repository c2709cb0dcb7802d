"""A session of annotation on two small scans, and a client of its server."""

from __future__ import annotations

import pytest

from tests.annotation.session import open_client, open_session
from tests.scans import write_cohort


@pytest.fixture
def session(tmp_path):
    images, _ = write_cohort(tmp_path, 2)
    with open_session(images, tmp_path / "out") as opened:
        yield opened


@pytest.fixture
def client(session):
    with open_client(session) as opened:
        yield opened
