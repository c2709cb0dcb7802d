"""The memory told before long work: tensors that live at the same time, limits, and real peaks."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import SimpleITK
import torch

from frugalseg.engine import host_memory, memory_estimate
from frugalseg.engine.host_memory import _read_cgroup_memory
from frugalseg.engine.memory_estimate import (
    count_inference_bytes,
    count_training_bytes,
    format_gb,
    measure_live_bytes,
    tell_memory,
)
from frugalseg.imaging.extent import count_voxels
from frugalseg.models.registry import BACKBONES, build_segmenter, choose_norm
from tests.scans import write_cohort

CPU = torch.device("cpu")


def test_tensors_count_while_they_live():
    def one_after_the_other():
        for _ in range(3):
            torch.zeros(1000)

    def together():
        return [torch.zeros(1000) for _ in range(3)]

    def views():
        whole = torch.zeros(1000)
        return whole[:10], whole.view(10, 100)

    assert measure_live_bytes(one_after_the_other) == 4000
    assert measure_live_bytes(together) == 12000
    assert measure_live_bytes(views) == 4000


def test_training_keeps_activations_for_its_backward_pass():
    deep = torch.nn.Sequential(*(layer for _ in range(4) for layer in (torch.nn.Linear(64, 64), torch.nn.Tanh())))
    training = count_training_bytes(deep, (256, 64), CPU)
    inference = count_inference_bytes(lambda: deep(torch.zeros(1, 64)), 256)
    assert training is not None
    # Eight activations are alive at the end of the forward pass, two at any time of inference.
    assert training > memory_estimate.OVERHEAD * 8 * 256 * 64 * 4
    assert inference < training / 2
    assert deep[0].weight.device == CPU
    assert deep[0].weight.grad is None


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_can_be_counted(name):
    norm = choose_norm(name, None, "instance_affine")
    network = build_segmenter(name, 2, norm)
    small, large = (count_training_bytes(network, (count, 1, 64, 64), CPU) for count in (2, 4))
    assert small is not None
    assert large > small > 3 * 4 * sum(p.numel() for p in network.parameters())


def test_a_network_that_needs_values_has_no_estimate():
    class Odd(torch.nn.Linear):
        def forward(self, x):
            return super().forward(x) if float(x.sum()) >= 0 else x

    assert count_training_bytes(Odd(4, 4), (2, 4), CPU) is None
    tell_memory(None, CPU)


PEAK = """
import sys, torch
from frugalseg.engine.allocator import keep_freed_memory
from frugalseg.engine.host_memory import peak_memory, used_memory
from frugalseg.engine.memory_estimate import count_training_bytes
from frugalseg.models.registry import build_segmenter
keep_freed_memory()
torch.set_num_threads(1)
network, shape = build_segmenter(sys.argv[1], 2, sys.argv[2]), (int(sys.argv[3]), 1, 128, 128)
estimate, before = count_training_bytes(network, shape, torch.device("cpu")), used_memory()
optimizer = torch.optim.AdamW(network.parameters())
for _ in range(2):
    optimizer.zero_grad()
    network(torch.randn(shape)).square().mean().backward()
    optimizer.step()
print(estimate / (peak_memory() - before))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peaks are read as on Linux")
@pytest.mark.parametrize(("name", "norm", "batch"), [("unet", "instance_affine", 8), ("resnet18-unet", "batch", 4)])
def test_the_estimate_is_within_a_factor_of_two_of_the_real_peak(name, norm, batch):
    command = [sys.executable, "-c", PEAK, name, norm, str(batch)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert 0.5 < float(done.stdout) < 2


def test_what_does_not_fit_is_warned_of(monkeypatch, capsys):
    monkeypatch.setattr(memory_estimate, "used_memory", lambda: 1_000_000_000)
    monkeypatch.setattr(memory_estimate, "free_host_memory", lambda: 2_000_000_000)
    tell_memory(500_000_000, CPU, 200_000_000)
    assert "needs about 1.7 of 3.0 GB memory" in capsys.readouterr().err
    with pytest.warns(UserWarning, match="this may not fit: about 5.0 GB of memory are needed, 3.0 GB are there"):
        tell_memory(4_000_000_000, CPU)


@pytest.mark.parametrize(
    ("memberships", "files", "free"),
    [
        (
            "0::/job\n",
            {"job/memory.max": "1000", "job/memory.current": "400", "job/memory.stat": "active_file 50"},
            650,
        ),
        ("0::/job\n", {"job/memory.max": "max", "job/memory.current": "400", "job/memory.stat": ""}, None),
        (
            "0::/slurm/step\n",  # the limit is that of the job around the step
            {"slurm/memory.max": "900", "slurm/memory.current": "100", "slurm/memory.stat": "inactive_file 7"},
            807,
        ),
        (
            "4:memory:/box\n",
            {
                "memory/box/memory.limit_in_bytes": "2000",
                "memory/box/memory.usage_in_bytes": "500",
                "memory/box/memory.stat": "total_inactive_file 10\ntotal_active_file 5",
            },
            1515,
        ),
    ],
)
def test_limits_of_containers_and_batch_systems(tmp_path, memberships, files, free):
    (tmp_path / "self").write_text(memberships)
    for name, text in files.items():
        (tmp_path / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cgroup" / name).write_text(text + "\n")
    assert list(_read_cgroup_memory(tmp_path / "self", tmp_path / "cgroup")) == ([] if free is None else [free])


def test_the_least_of_all_limits_counts(monkeypatch):
    monkeypatch.setattr(host_memory, "_read_cgroup_memory", lambda: iter([7, 5]))
    assert host_memory.free_host_memory() == 5


def test_sizes():
    assert [format_gb(round(size * 1e9)) for size in (0.084, 0.84, 3.14, 22.4)] == ["0.08", "0.84", "3.1", "22"]


def test_voxels_are_read_from_headers(tmp_path):
    images, _ = write_cohort(tmp_path, 1, shape=(9, 8, 7))
    nrrd = images / "other.nrrd"
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.zeros((6, 5, 4), np.int16)), str(nrrd))
    damaged = images / "damaged.nii.gz"
    damaged.write_bytes(b"no scan" * 5000)
    assert count_voxels([nrrd]) == 120
    assert count_voxels([images / "scan_00.nii.gz", nrrd, damaged, images / "gone.nii"]) == 504
    assert count_voxels([damaged]) == 0
