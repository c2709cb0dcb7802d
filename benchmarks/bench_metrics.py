"""Time of all metrics of one liver-sized organ on a 512×512×200 grid, and of MONAI's HD95 and surface Dice.

    python benchmarks/bench_metrics.py [--repeats 5] [--no-monai]

Both get the same boolean masks in memory. MONAI's interface needs two calls for HD95 and surface Dice, each of which
computes the distances; its Dice is not timed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table
from scipy import ndimage

from frugalseg.evaluation.metrics import compare

SHAPE, SPACING, TOLERANCE = (512, 512, 200), (0.8, 0.8, 1.25), 3.0

Mask = npt.NDArray[np.bool_]


def blob(seed: int, shift_mm: float = 0.0) -> Mask:
    """An ellipsoid of about 1.5 l with a bumpy surface."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=tuple(n // 8 for n in SHAPE))
    bumps = ndimage.zoom(ndimage.gaussian_filter(coarse, 2.0), 8, order=1)
    x, y, z = (np.arange(n) * s - n * s / 2 for n, s in zip(SHAPE, SPACING, strict=True))
    radius = (
        ((x + 40 + shift_mm) / 95)[:, None, None] ** 2 + (y / 65)[None, :, None] ** 2 + (z / 60)[None, None, :] ** 2
    )
    inside: Mask = radius + 0.6 * bumps / bumps.std() * 0.1 < 1
    return inside


def timed(work: Callable[[], object], repeats: int) -> tuple[float, object]:
    """The median time in seconds, and the last result."""
    times = []
    result: object = None
    for _ in range(repeats):
        start = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - start)
    return float(np.median(times)), result


def with_monai(reference: Mask, prediction: Mask) -> tuple[float, float]:
    """HD95 and surface Dice by MONAI."""
    import torch
    from monai.metrics import compute_hausdorff_distance, compute_surface_dice

    a, b = (torch.from_numpy(m)[None, None].float() for m in (reference, prediction))
    hd95 = compute_hausdorff_distance(b, a, include_background=True, percentile=95, spacing=list(SPACING))
    nsd = compute_surface_dice(b, a, [TOLERANCE], include_background=True, spacing=list(SPACING))
    return float(hd95), float(nsd)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--no-monai", action="store_true")
    arguments = parser.parse_args()
    reference, prediction = blob(1), blob(2, shift_mm=4.0)
    volume = reference.sum() * np.prod(SPACING) / 1000
    table = Table(title=f"one organ of {volume:.0f} ml on {'×'.join(map(str, SHAPE))} voxels")
    for column in ("tool", "seconds (median)", "HD95, mm", "NSD at 3 mm", "Dice"):
        table.add_column(column, justify="left" if column == "tool" else "right")
    affine = np.diag([*SPACING, 1.0])
    seconds, ours = timed(lambda: compare(reference, prediction, affine, TOLERANCE), arguments.repeats)
    of_ours = (f"{ours.values[key]:.{digits}f}" for key, digits in (("hd95_mm", 4), ("nsd", 5), ("dice", 5)))
    table.add_row("frugalseg (all metrics)", f"{seconds:.2f}", *of_ours)
    if not arguments.no_monai:
        seconds, theirs = timed(lambda: with_monai(reference, prediction), 1)
        table.add_row("MONAI (HD95 and NSD)", f"{seconds:.2f}", f"{theirs[0]:.4f}", f"{theirs[1]:.5f}", "")
    Console().print(table)


if __name__ == "__main__":
    main()
