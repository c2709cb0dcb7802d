"""A model of 10⁵ scans on 1 to 64 machines, from the measured cost of one scan: time, network, disk, what breaks first.

    python benchmarks/scale_costs.py /tmp/scale-costs      # measures
    python benchmarks/simulated_scale.py                   # computes, in a second

Writes nodes.csv and limits.csv into docs/explanation/tables/scale/. It is arithmetic, not a measurement: every machine
is as fast as the measured one, work is divided evenly, and what is waited for is the slowest of processors, network and
disk, which overlap. `Cluster` holds what it assumes about machines.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

FILES = Path(__file__).resolve().parents[1] / "docs" / "explanation" / "tables" / "scale"
SCANS = 100_000
NODES = (1, 2, 4, 8, 16, 32, 64)
HOUR, GB = 3600.0, 1e9

Costs = Mapping[str, float]


@dataclass(frozen=True)
class Cluster:
    """Assumed machines and what joins them.

    Attributes:
        nodes: machines.
        cores: processor cores of each, each with one thread on one scan.
        memory: of each, bytes.
        network: of each machine, bytes/s: 10 Gbit/s.
        server: bytes/s that the file server gives all machines together.
        disk: bytes/s of a local disk.
        per_scan_s: seconds of the driver for each scan: sending the task, noting the result.
        latency_s: of one exchange of gradients, per doubling of the machines.
        scan_voxels: voxels of a scan; costs are scaled to it.
        parameters: of the network, whose gradients are exchanged in every step.
    """

    nodes: int
    cores: int = 16
    memory: float = 64 * GB
    network: float = 1.25 * GB
    server: float = 2.0 * GB
    disk: float = 1.0 * GB
    per_scan_s: float = 0.005
    latency_s: float = 0.0002
    scan_voxels: int = 512 * 512 * 100
    parameters: int = 2_000_000

    @property
    def shared(self) -> float:
        """Bytes/s at which all machines together read or write the shared folder."""
        return min(self.nodes * self.network, self.server)


@dataclass(frozen=True)
class Stage:
    """One stage of the work.

    Attributes:
        parallel: what the machines wait for, and for how many seconds, all at the same time.
        serial: what one machine then does alone, seconds.
        moved: bytes over the network.
    """

    name: str
    parallel: Mapping[str, float]
    serial: Mapping[str, float]
    moved: float

    @property
    def seconds(self) -> float:
        """The whole time."""
        return max(self.parallel.values()) + sum(self.serial.values())

    @property
    def limit(self) -> str:
        """What takes longest."""
        slowest = max(self.parallel, key=lambda name: self.parallel[name])
        waits = {slowest: self.parallel[slowest], **self.serial}
        return max(waits, key=lambda name: waits[name])


def scale_to_scan(costs: Costs, cluster: Cluster) -> dict[str, float]:
    """The costs of a scan of the assumed size: reading grows with voxels, everything else with slices."""
    voxels = cluster.scan_voxels / costs["voxels"]
    slices = cluster.scan_voxels / 512**2 / costs["slices"]
    growing = {"prepare_s": voxels, "scan_bytes": voxels, "predict_s": voxels, "mask_bytes": voxels}
    by_slices = ("store_bytes", "slices", "index_write_s", "index_read_s", "index_bytes", "index_memory")
    return {**costs, **{k: costs[k] * f for k, f in growing.items()}, **{k: costs[k] * slices for k in by_slices}}


def model_prepare(cost: Costs, cluster: Cluster, scans: int) -> Stage:
    """Scans are read from the shared folder and their parts written there; one machine joins the parts."""
    store = scans * cost["store_bytes"]
    parallel = {
        "processors": scans * cost["prepare_s"] / (cluster.nodes * cluster.cores),
        "file server": scans * (cost["scan_bytes"] + cost["store_bytes"]) / cluster.shared,
        "driver": scans * cluster.per_scan_s,
    }
    alone = min(cluster.network, cluster.server)
    serial = {"joining the parts": 2 * store / alone, "writing the index": scans * cost["index_write_s"]}
    return Stage("prepare", parallel, serial, scans * cost["scan_bytes"] + 3 * store)


def model_epoch(cost: Costs, cluster: Cluster, scans: int) -> Stage:
    """One pass of pre-training over all slices, one process a core with its own share of each batch."""
    processes = cluster.nodes * cluster.cores
    steps = scans * cost["slices"] / (cost["slices_per_step"] * processes)
    gradients = 2 * 4 * cluster.parameters * (1 - 1 / cluster.nodes)
    doublings = cluster.nodes.bit_length() - 1
    moved = steps * gradients * cluster.nodes
    read = scans * cost["store_bytes"]
    fits = read <= 0.5 * cluster.memory
    # Where the store is larger than half of the memory it is read again in every epoch, each machine its share.
    parallel = {
        "processors": steps * cost["step_s"],
        "file server": 0.0 if fits else read / cluster.shared,
    }
    serial = {"exchange of gradients": steps * (gradients / cluster.network + doublings * cluster.latency_s)}
    opening = {"opening the store": scans * cost["index_read_s"]}
    return Stage("pre-train, one epoch", parallel, serial | opening, moved + (0.0 if fits else read))


def model_predict(cost: Costs, cluster: Cluster, scans: int) -> Stage:
    """Scans are read from the shared folder, masks written there."""
    moved = scans * (cost["scan_bytes"] + cost["mask_bytes"])
    parallel = {
        "processors": scans * cost["predict_s"] / (cluster.nodes * cluster.cores),
        "file server": moved / cluster.shared,
        "driver": scans * cluster.per_scan_s,
    }
    return Stage("predict", parallel, {}, moved)


STAGES = (model_prepare, model_epoch, model_predict)


def simulate(costs: Costs) -> list[dict[str, str]]:
    """One row per number of machines and stage."""
    clusters = [Cluster(nodes) for nodes in NODES]
    return [describe(c.nodes, model(scale_to_scan(costs, c), c, SCANS)) for c in clusters for model in STAGES]


def describe(nodes: int, stage: Stage) -> dict[str, str]:
    """A row of nodes.csv."""
    return {
        "nodes": str(nodes),
        "stage": stage.name,
        "hours": f"{stage.seconds / HOUR:.3g}",
        "limit": stage.limit,
        "network_gb_s": f"{stage.moved / stage.seconds / GB:.2g}",
        "moved_tb": f"{stage.moved / 1e12:.3g}",
    }


def list_limits(costs: Costs) -> list[dict[str, str]]:
    """What each number of scans needs of one machine: disk, memory, time to open."""
    cluster = Cluster(1)
    cost = scale_to_scan(costs, cluster)
    return [
        {
            "scans": f"{scans:,}",
            "scans on disk, TB": f"{scans * cost['scan_bytes'] / 1e12:.3g}",
            "store, GB": f"{scans * cost['store_bytes'] / GB:.3g}",
            "disk while joining, GB": f"{2 * scans * cost['store_bytes'] / GB:.3g}",
            "store.json, GB": f"{scans * cost['index_bytes'] / GB:.2g}",
            "memory of its content, GB": f"{scans * cost['index_memory'] / GB:.2g}",
            "opening the store, s": f"{scans * cost['index_read_s']:.3g}",
        }
        for scans in (1_000, 10_000, 100_000, 1_000_000)
    ]


def read_costs(path: Path) -> dict[str, float]:
    """What `scale_costs.py` measured."""
    with path.open(encoding="utf-8", newline="") as file:
        return {row["cost"]: float(row["value"]) for row in csv.DictReader(file)}


def write_csv(path: Path, rows: list[dict[str, str]]) -> None:
    """Write a table."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    """Compute both tables."""
    costs = read_costs(FILES / "costs.csv")
    write_csv(FILES / "nodes.csv", simulate(costs))
    write_csv(FILES / "limits.csv", list_limits(costs))


if __name__ == "__main__":
    main()
