"""Time to refine a volume twice with a cache, and peak memory of propagation through 50 and through 200 slices.

    python benchmarks/bench_refine.py [MODEL]

Every propagation runs in a separate process.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np

from frugalseg.options import RefineOptions
from frugalseg.refinement.refine import refine
from tables import show

SIDE, DEPTH = 256, 40
SHORT, LONG = 50, 200
PROPAGATE = """
import json, resource, sys, time
from pathlib import Path
from frugalseg.options import PropagateOptions
from frugalseg.propagation.propagate import propagate

folder, model, depth = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
begun = time.perf_counter()
propagate(PropagateOptions(
    images=folder / "scan.nii.gz", annotations=folder / "mask.nii.gz", slices=str(depth // 2), out=folder / "out",
    model=model, device="cpu",
))
seconds = (time.perf_counter() - begun) / depth
print(json.dumps([resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, seconds]))
"""


def main(model: str = "litemedsam") -> None:
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_scan(folder, DEPTH)
        given = {"images": folder / "scan.nii.gz", "masks": folder / "mask.nii.gz", "model": model, "device": "cpu"}
        seconds = []
        for run in ("first", "second"):
            begun = time.perf_counter()
            refine(RefineOptions(**given, cache=folder / "cache", out=folder / run))
            seconds.append(time.perf_counter() - begun)
        rows += [
            (f"refine {DEPTH} slices of {SIDE}²", f"{seconds[0]:.1f} s", ""),
            ("second run, from the cache", f"{seconds[1]:.1f} s", ""),
            ("speed-up", f"{seconds[0] / seconds[1]:.0f}×", "≥ 10×"),
        ]
    peaks = []
    for depth in (SHORT, LONG):
        with tempfile.TemporaryDirectory() as name:
            write_scan(Path(name), depth)
            command = [sys.executable, "-c", PROPAGATE, name, model, str(depth)]
            result = subprocess.run(command, check=True, capture_output=True, text=True)
            peak, each = json.loads(result.stdout.splitlines()[-1])
            peaks.append(peak)
            rows.append((f"propagate through {depth} slices", f"{peak:.0f} MB, {each:.2f} s per slice", ""))
    volume = SIDE * SIDE * (LONG - SHORT) * (2 + 1) / 1e6
    rows.append(
        ("additional memory for 150 more slices", f"{peaks[1] - peaks[0]:.0f} MB", f"scan and mask: {volume:.0f} MB")
    )
    show("refine and propagate", rows)


def write_scan(folder: Path, depth: int) -> None:
    """Write a scan with a bright ellipse that moves from slice to slice, and its mask."""
    rng = np.random.default_rng(0)
    x, y = np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij")
    image, mask = np.empty((SIDE, SIDE, depth), np.int16), np.empty((SIDE, SIDE, depth), np.uint8)
    for z in range(depth):
        turn = 2 * np.pi * z / 100
        inside = ((x - 120 - 20 * np.sin(turn)) / 50) ** 2 + ((y - 130 - 10 * np.cos(turn)) / 40) ** 2 < 1
        body = ((x - 128) / 115) ** 2 + ((y - 128) / 90) ** 2 < 1
        image[:, :, z] = np.where(inside, 110, np.where(body, -20, -1000)) + rng.normal(0, 15, (SIDE, SIDE))
        mask[:, :, z] = inside
    affine = np.diag([-1.5, -1.5, 3.0, 1.0])
    nib.save(nib.Nifti1Image(image, affine), folder / "scan.nii.gz")
    nib.save(nib.Nifti1Image(mask, affine), folder / "mask.nii.gz")


if __name__ == "__main__":
    main(*sys.argv[1:])
