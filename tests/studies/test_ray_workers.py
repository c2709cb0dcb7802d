"""How many jobs of how many threads a Ray cluster can take; the cluster is made up."""

from __future__ import annotations

import socket
import sys
from types import SimpleNamespace

import pytest

from frugalseg.errors import RunError
from frugalseg.studies.jobs.ray_workers import RayWorkers


@pytest.fixture
def workers(monkeypatch, tmp_path):
    """A cluster of machines, each (cores, GPUs), with a dead one beside them."""

    def of(*machines, at_once=None, threads=None):
        nodes = [{"Alive": True, "Resources": {"CPU": float(cpu), "GPU": float(gpu)}} for cpu, gpu in machines]
        dead = {"Alive": False, "Resources": {"CPU": 999.0}}
        head = {"Alive": True, "Resources": {}}  # of ray start --num-cpus 0
        fake = SimpleNamespace(
            init=lambda **_: None,
            is_initialized=lambda: True,
            shutdown=lambda: None,
            nodes=lambda: [dead, head, *nodes],
        )
        monkeypatch.setitem(sys.modules, "ray", fake)
        return RayWorkers(tmp_path, "auto", at_once, threads)

    return of


def test_a_job_needs_its_cores_on_one_machine(workers):
    with pytest.raises(RunError, match="no machine of the cluster has 8 cores, the largest has 6"):
        workers((4, 0), (6, 0), threads=8)
    two = workers((4, 0), (6, 0), threads=4)
    assert (two.at_once, two.threads) == (2, 4)  # ten cores would be two as well
    assert workers((6, 0), (6, 0), threads=4).at_once == 2  # and twelve would be three
    with pytest.raises(RunError, match="the largest has 0"):
        workers()


def test_threads_are_by_default_those_of_the_largest_machine(workers):
    assert (workers((4, 0), (16, 0)).at_once, workers((4, 0), (16, 0)).threads) == (1, 16)
    several = workers((16, 0), (16, 0), at_once=4)
    assert (several.at_once, several.threads) == (4, 8)


def test_one_job_a_gpu_on_machines_that_have_some(workers):
    gpus = workers((64, 0), (16, 4), (16, 4))
    assert (gpus.at_once, gpus.threads) == (8, 4)
    assert workers((16, 1), threads=2).at_once == 1


def test_an_unreachable_address_is_reported_at_once(monkeypatch, tmp_path):
    def init(**_):
        raise AssertionError("Ray would try for a quarter of an hour")

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=init, is_initialized=lambda: False))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(RunError, match=f"--ray 127.0.0.1:{port}: no cluster answers"):
        RayWorkers(tmp_path, f"127.0.0.1:{port}", None, None)
