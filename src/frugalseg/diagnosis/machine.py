"""Devices, threads and memory."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from frugalseg.diagnosis.section import Facts, Problem, Section, hide_names
from frugalseg.engine.host_memory import free_host_memory
from frugalseg.engine.threads import THREADS_VARIABLE, usable_cores

if TYPE_CHECKING:
    import torch

GIB = 1 << 30
LITTLE_GIB = 2.0
"""Free memory below which most commands fail."""
VARIABLES = (
    *(THREADS_VARIABLE, "CUDA_VISIBLE_DEVICES", "PYTORCH_ENABLE_MPS_FALLBACK", "WORLD_SIZE", "SLURM_JOB_ID"),
    *("RAY_ADDRESS", "FRUGALSEG_HOME", "HF_HUB_OFFLINE", "WANDB_MODE", "LC_ALL", "LANG"),
)
"""Environment variables that change what frugalseg does; none holds a secret."""
INSTALL_CUDA = "install PyTorch's CUDA build of the same version (docs/how-to/install.md)"


def describe_devices() -> Section:
    """The processor, and each GPU that PyTorch can use."""
    try:
        import torch
    except Exception:  # the section on packages states why
        return Section({"devices": "unknown, since PyTorch cannot be imported"})
    facts: Facts = {**_describe_cpu(), **_describe_cuda(), "mps (Apple GPU)": torch.backends.mps.is_available()}
    return Section(facts, [*_check_cuda()])


def _describe_cpu() -> Facts:
    import torch

    from frugalseg.engine.device import find_device, has_fast_bf16

    return {
        "processor": _read_processor_name(),
        "instruction set": torch.backends.cpu.get_cpu_capability(),
        "fast bf16 on the CPU": has_fast_bf16(torch.device("cpu")),
        "cores": usable_cores(),
        "threads of PyTorch": torch.get_num_threads(),
        "--device auto": find_device("auto").type,
    }


def _read_processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def _describe_cuda() -> Facts:
    import torch

    facts: Facts = {"CUDA of PyTorch": torch.version.cuda or "none (a CPU build)"}
    for number in range(torch.cuda.device_count()):
        found = torch.cuda.get_device_properties(number)
        facts[f"cuda:{number}"] = f"{found.name}, {found.total_memory / GIB:.0f} GiB, {found.major}.{found.minor}"
    return facts


def _check_cuda() -> list[Problem]:
    import torch

    count = torch.cuda.device_count()
    if not count and shutil.which("nvidia-smi") and os.environ.get("CUDA_VISIBLE_DEVICES") != "":
        reason = "is a CPU build" if torch.version.cuda is None else "does not fit its driver"
        found = (
            f"this machine seems to have an NVIDIA GPU (nvidia-smi is there), but PyTorch cannot use it: it {reason}"
        )
        return [Problem(found, INSTALL_CUDA, breaks=False)]
    return [problem for number in range(count) for problem in _try_gpu(torch.device("cuda", number))]


def _try_gpu(device: torch.device) -> list[Problem]:
    import torch

    try:
        torch.ones(8, device=device).sum().item()
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        return [Problem(f"{device} does not compute ({reason})", f"use --device cpu, or {INSTALL_CUDA}")]
    return []


def describe_memory() -> Section:
    """Free main memory, as far as the container allows."""
    free = free_host_memory() / GIB
    facts: Facts = {"free GiB": round(free, 1)}
    if free >= LITTLE_GIB:
        return Section(facts)
    found = f"only {free:.1f} GiB of memory are free"
    return Section(facts, [Problem(found, "end other programs, or ask for more memory", breaks=False)])


def describe_variables() -> Section:
    """Environment variables that are set and change what frugalseg does."""
    return Section({name: hide_names(os.environ[name]) for name in VARIABLES if name in os.environ})
