"""Options of `export`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

ExportFormat = Literal["onnx", "torch", "monai-bundle"]


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Export a trained model for other programs, and compare it with the original on a scan."""

    model: Path
    """Run of `frugalseg finetune`, without a frozen encoder."""
    out: Path
    """Folder to write: the network, recipe.json (all that happens before and after it), and a short program that
    segments a scan without frugalseg."""
    format: ExportFormat = "onnx"
    """onnx: model.onnx, for onnxruntime and others. torch: model.ts (TorchScript), for PyTorch and libtorch.
    monai-bundle: a MONAI bundle, for `python -m monai.bundle run`."""
    scan: Path | None = None
    """Scan on which the exported network is compared with the original; by default the first test scan of the slice
    store, where it is still there."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N, or mps (a Mac's GPU; auto does not choose it); of the original."""
    threads: int | None = None
    """Number of CPU threads; by default OMP_NUM_THREADS, otherwise one per available physical core."""
    overwrite: bool = False
    """Write into a folder that already holds an export."""
