"""Time to load a batch of 20 slices of 256² from the store to float32 on the device."""

from __future__ import annotations

import tempfile
from collections import deque
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from frugalseg.dataset.source import SliceSource
from frugalseg.dataset.store import SliceStore
from stores import store_record
from tables import median_seconds, show

SLICES, SIZE, BATCH = 2000, 256, 20


def main() -> None:
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "images.npy", rng.random((SLICES, SIZE, SIZE), dtype=np.float32).astype(np.float16))
        np.save(Path(folder) / "labels.npy", rng.integers(0, 2, (SLICES, SIZE, SIZE), dtype=np.uint8))
        store = SliceStore(Path(folder), store_record(SIZE), pd.DataFrame({"case": "scan", "z": np.arange(SLICES)}))
        batches = [torch.from_numpy(rng.integers(0, SLICES, BATCH)) for _ in range(50)]
        rows = []
        for resident, name in ((True, "resident in memory"), (False, "from disk, warm, read ahead")):
            source = SliceSource(store, torch.device("cpu"), with_labels=True, resident=resident)
            seconds = median_seconds(lambda: deque(source.stream(batches), maxlen=0)) / len(batches)  # noqa: B023
            rows.append((name, f"{1000 * seconds:.2f} ms", "< 2 ms"))
    show(f"Gathering {BATCH} slices of {SIZE}² with labels", rows)


if __name__ == "__main__":
    main()
