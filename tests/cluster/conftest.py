"""The cluster that all tests of this folder share: starting one takes seconds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.nodes import TwoNodes, two_nodes


@pytest.fixture(scope="package")
def shared_nodes() -> Iterator[TwoNodes]:
    with two_nodes() as nodes:
        yield nodes


@pytest.fixture
def nodes(shared_nodes) -> TwoNodes:
    """Two nodes, of which the test may kill one."""
    shared_nodes.restore()
    return shared_nodes
