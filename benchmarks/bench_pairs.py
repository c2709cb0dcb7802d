"""Triplets per second that the pair rules draw, on a set of the size of LiTS' training part."""

from __future__ import annotations

import numpy as np

from frugalseg.pretraining.pairs import PairTable
from tables import median_seconds, show

SCANS, SLICES = 130, 450


def main() -> None:
    z = np.tile(np.arange(SLICES) * 1.0, SCANS)
    present = ((z > 150) & (z < 300))[:, None]
    table = PairTable(np.arange(len(z)), np.repeat(np.arange(SCANS), SLICES), present, z)
    rng = np.random.default_rng(0)
    rows = []
    for method, scope, min_dz in [
        ("polycl-o", "same", 0.0),
        ("polycl-s", "same", 0.0),
        ("polycl-m", "same", 0.0),
        ("polycl-m", "other", 0.0),
        ("polycl-m", "same", 10.0),
    ]:
        seconds = median_seconds(lambda: table.draw(method, rng, scope, min_dz))  # noqa: B023
        name = f"{method}, negatives: {scope}, min_dz {min_dz:g}"
        rows.append((name, f"{len(z) / seconds / 1e6:.1f} M triplets/s", "≥ 1 M pairs/s"))
    show(f"Pair selection, {len(z)} slices of {SCANS} scans", rows)


if __name__ == "__main__":
    main()
