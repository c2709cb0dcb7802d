"""Time and peak memory of `predict` on one large scan: 512×512×200, int16."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from torch import nn

from frugalseg.imaging.intensity import IntensityScale
from frugalseg.models.registry import build_segmenter
from frugalseg.models.saved import save_model
from frugalseg.records.model import Preprocessing, SegmenterAnnotation, SegmenterRecord
from tables import show

SHAPE = (512, 512, 200)
MEASURE = """
import json, resource, sys, time
from frugalseg.cli import main
begun = time.perf_counter()
assert main(sys.argv[1:]) == 0
print(json.dumps([time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""


def main() -> None:
    volume_mb = 4 * SHAPE[0] * SHAPE[1] * SHAPE[2] / 2**20
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_scan(folder / "scan.nii.gz")
        rows = []
        for classes in (1, 13):
            run = folder / f"model_{classes}"
            run.mkdir()
            torch.manual_seed(0)
            targets = {f"organ {i}": (i,) for i in range(1, classes + 1)}
            network = build_segmenter("unet", classes, "instance_affine")
            save_model(run, network, record_of(network, targets))
            flags = ["--model", run, "--images", folder / "scan.nii.gz", "--out", folder / f"out_{classes}"]
            command = [sys.executable, "-c", MEASURE, "predict", *map(str, flags)]
            result = subprocess.run(command, check=True, capture_output=True, text=True)
            seconds, peak_mb = json.loads(result.stdout.splitlines()[-1])
            rows.append((f"peak memory, {classes} classes", f"{peak_mb:.0f} MB", f"≤ {3 * volume_mb + 500:.0f} MB"))
            rows.append((f"time, {classes} classes", f"{seconds:.1f} s", ""))
    show(f"predict on one scan of {'×'.join(map(str, SHAPE))}, slices of 256²", rows)


def record_of(network: nn.Module, targets: dict[str, tuple[int, ...]]) -> SegmenterRecord:
    """The model record of an untrained network."""
    return SegmenterRecord(
        backbone="unet",
        norm="instance_affine",
        context=0,
        parameters=sum(p.numel() for p in network.parameters()),
        targets=targets,
        preprocessing=Preprocessing(256, IntensityScale("ct", -160, 240)),
        keep=dict.fromkeys(targets, "largest"),
        step=0,
        validation_dice=None,
        annotation=SegmenterAnnotation(budget="0 slices", draw=0, masks=0, mask_scans=0, validation_scans=0),
        scans=(),
    )


def _write_scan(path: Path) -> None:
    """In a separate process, so that its memory is not measured."""
    code = (
        "import numpy as np, nibabel as nib, sys; rng = np.random.default_rng(0); "
        f"a = rng.integers(-1000, 400, {SHAPE}, dtype=np.int16); "
        "nib.save(nib.Nifti1Image(a, np.diag([0.8, 0.8, 1.5, 1])), sys.argv[1])"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)


if __name__ == "__main__":
    main()
