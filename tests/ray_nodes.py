"""A Ray cluster of two nodes on this machine, of which one can be killed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest


class TwoNodes:
    """A head without cores, so that no work runs there, and two nodes of one core each.

    Attributes:
        address: what `--ray` takes.
    """

    def __init__(self) -> None:
        pytest.importorskip("ray", reason="Ray is not installed (pip install 'frugalseg[cluster]')")
        from ray.cluster_utils import Cluster

        self._cluster: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        self._nodes = [self._add() for _ in range(2)]
        self._cluster.wait_for_nodes()
        self.address: str = self._cluster.address

    def _add(self) -> Any:
        return self._cluster.add_node(num_cpus=1, include_dashboard=False)

    def kill_one(self) -> None:
        """End a node and its processes as if its machine had lost power."""
        self._cluster.remove_node(self._nodes.pop(), allow_graceful=False)

    def restore(self) -> None:
        """Start killed nodes again."""
        while len(self._nodes) < 2:
            self._nodes.append(self._add())
        self._cluster.wait_for_nodes()

    def close(self) -> None:
        """End all nodes."""
        self._cluster.shutdown()


@contextmanager
def two_nodes() -> Iterator[TwoNodes]:
    nodes = TwoNodes()
    try:
        yield nodes
    finally:
        nodes.close()
