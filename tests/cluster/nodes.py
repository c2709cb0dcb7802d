"""A Ray cluster of two nodes on this machine, of which one can be killed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from frugalseg.engine import ray_pool

QUICK = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 4}
"""A lost node is noticed after two seconds instead of fifteen."""


class TwoNodes:
    """A head without cores, so that no work runs there, and two nodes of one core each.

    Attributes:
        address: what `--ray` takes.
    """

    def __init__(self) -> None:
        pytest.importorskip("ray", reason="Ray is not installed (pip install 'frugalseg[cluster]')")
        from ray.cluster_utils import Cluster

        head = {"num_cpus": 0, "include_dashboard": False, "_system_config": QUICK}
        self._cluster: Any = Cluster(initialize_head=True, head_node_args=head)
        self._nodes: list[Any] = []
        self.address: str = self._cluster.address

    def _add(self) -> Any:
        return self._cluster.add_node(num_cpus=1, include_dashboard=False)

    def kill_one(self) -> None:
        """End a node and its processes as if its machine had lost power."""
        self._cluster.remove_node(self._nodes.pop(), allow_graceful=False)

    def restore(self) -> None:
        """Start the nodes that are missing."""
        while len(self._nodes) < 2:
            self._nodes.append(self._add())
        self._cluster.wait_for_nodes()

    def count(self) -> int:
        """Nodes with a core."""
        return len(self._nodes)

    def close(self) -> None:
        """End all nodes."""
        self._cluster.shutdown()


@contextmanager
def two_nodes() -> Iterator[TwoNodes]:
    """Two nodes that this process is connected to: `--ray auto` means them, and their processes are used again."""
    nodes = TwoNodes()
    import ray

    # Before there are others, so that this process belongs to the head: it would end with the node it belongs to.
    ray.init(address=nodes.address, log_to_driver=False)
    try:
        nodes.restore()
        yield nodes
    finally:
        ray.shutdown()
        nodes.close()


def kill_in_the_middle(monkeypatch: pytest.MonkeyPatch, nodes: TwoNodes) -> None:
    """Kill a node when the first scan of the next command is done."""
    take = ray_pool._Tasks._take

    def take_and_kill(tasks: Any, case: str, task: Any) -> Any:
        if nodes.count() == 2:
            nodes.kill_one()
        return take(tasks, case, task)

    monkeypatch.setattr(ray_pool._Tasks, "_take", take_and_kill)
