"""The device and the floating-point precision of a command."""

from __future__ import annotations

import logging
import os
import platform
import re
from typing import TYPE_CHECKING, Any, Literal, cast

import torch

from frugalseg.engine import progress
from frugalseg.engine.allocator import keep_freed_memory
from frugalseg.engine.launch import choose_gpu, count_processes, join_slurm_step
from frugalseg.errors import DeviceError, OptionError
from frugalseg.options import Precision
from frugalseg.text import pluralize

if TYPE_CHECKING:
    from lightning_fabric import Fabric

DEVICE_NAMES = "auto, cpu, cuda, cuda:N, or mps"
FabricPrecision = Literal["32-true", "bf16-mixed", "16-mixed"]


def check_device_name(name: str) -> None:
    """Raise `OptionError` unless `name` is auto, cpu, cuda, cuda:N, or mps."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?|mps", name):
        raise OptionError(f"--device {name!r} is unknown", f"give {DEVICE_NAMES}")


def find_device(name: str) -> torch.device:
    """The device for `name`: auto (CUDA if available, otherwise the CPU), cpu, cuda, cuda:N, or mps (a Mac's GPU).

    `auto` never chooses mps, on which frugalseg has not been tested.

    Raises:
        OptionError: the name is none of these.
        DeviceError: there is no such GPU.
    """
    check_device_name(name)
    if name == "mps":
        return _find_mps()
    count = torch.cuda.device_count()
    if name == "cpu" or (name == "auto" and count == 0):
        return torch.device("cpu")
    device = torch.device("cuda" if name == "auto" else name)
    if (device.index or 0) >= count:
        found = {0: "is no GPU", 1: "is only 1 GPU"}.get(count, f"are only {count} GPUs")
        raise DeviceError(
            f"--device {name}: there {found} that PyTorch can use",
            "use --device cpu, or install a CUDA build of PyTorch and check `nvidia-smi`",
        )
    return torch.device("cuda", device.index or choose_gpu(count))


def _find_mps() -> torch.device:
    if torch.backends.mps.is_available():
        return torch.device("mps")
    built = torch.backends.mps.is_built()
    raise DeviceError(
        "--device mps: "
        + ("this Mac has no GPU that PyTorch can use" if built else "this PyTorch is not built for Macs"),
        "use --device cpu" + (", or update macOS" if built else "; mps is for Macs with Apple silicon"),
    )


def resolve_precision(precision: Precision, device: torch.device) -> FabricPrecision:
    """The precision in Fabric's terms; `auto` is bf16 where the device is faster with it, otherwise 32.

    Raises:
        OptionError: 16 on a CPU, 16 or bf16 on a Mac's GPU.
    """
    if precision == "auto":
        precision = "bf16" if has_fast_bf16(device) else "32"
    if precision == "16" and device.type == "cpu":
        raise OptionError("--precision 16 needs a GPU", "use --precision bf16 or 32 on a CPU")
    if precision != "32" and device.type == "mps":
        raise OptionError(f"--precision {precision} is not supported with --device mps", "use --precision 32 or auto")
    return cast(FabricPrecision, {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}[precision])


def has_fast_bf16(device: torch.device) -> bool:
    """Whether this device computes faster in bf16 than in float32."""
    if device.type == "mps":
        return False
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """Autocast for inference with this precision."""
    kind = resolve_precision(precision, device)
    dtype = torch.float16 if kind == "16-mixed" else torch.bfloat16
    return torch.autocast(device.type, dtype=dtype, enabled=kind != "32-true")


def widest_float(device: torch.device) -> torch.dtype:
    """The type for sums of many numbers: float64, which a Mac's GPU does not have."""
    return torch.float32 if device.type == "mps" else torch.float64


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """`tensor` on a device; to a CUDA GPU it goes from pinned memory, and nothing waits for its arrival."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def make_fabric(device_name: str, precision: Precision) -> Fabric:
    """A Lightning Fabric on one device, or on the devices of all processes that were started together."""
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    join_slurm_step()
    device = find_device(device_name)
    if device.type == "cpu":
        keep_freed_memory()
    settings: dict[str, Any] = {"accelerator": device.type, "devices": [device.index] if device.type == "cuda" else 1}
    # Named, since Fabric would take any command in a SLURM job for one of several tasks.
    environment: LightningEnvironment | TorchElasticEnvironment = LightningEnvironment()
    if (processes := count_processes()) > 1:
        if device.type == "mps":
            raise OptionError("--device mps: several processes cannot train together on it", "start a single process")
        environment = TorchElasticEnvironment()
        local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        settings |= {"num_nodes": processes // local, "strategy": "ddp"}
        if local > 1:
            settings["devices"] = local
        progress.console.quiet = environment.global_rank() > 0
    plugins: Any = [environment]
    fabric = Fabric(precision=resolve_precision(precision, device), plugins=plugins, **settings)
    fabric.launch()
    return fabric


def describe_device(device: torch.device) -> str:
    """Name of the device, for people."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} (CUDA {torch.version.cuda})"
    if device.type == "mps":
        return f"Apple GPU (MPS), macOS {platform.mac_ver()[0]}"
    return f"CPU, {pluralize(torch.get_num_threads(), 'thread')}, {torch.backends.cpu.get_cpu_capability()}"


def leave_process_group() -> None:
    """Leave torchrun's process group; otherwise some processes crash when they exit."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
