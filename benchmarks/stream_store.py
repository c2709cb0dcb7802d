"""How fast random batches are read from a store that is not in memory, compared with one that is.

    OMP_NUM_THREADS=1 python benchmarks/stream_store.py /tmp/stream-store

Makes up a store in one file and in shards. Before a cold pass the system is asked to forget its files
(`posix_fadvise`), and each slice is then read once, in random order: as from a store that is much larger than memory.
Writes docs/explanation/tables/scale/streaming.csv.
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from frugalseg.dataset.shards import list_files
from frugalseg.dataset.source import SliceSource, shuffled_batches
from frugalseg.dataset.store import ARRAYS, SliceStore, build_index
from frugalseg.imaging.intensity import IntensityScale
from frugalseg.records.split import Split
from frugalseg.records.store import FileStamp, ScanEntry, SplitParameters, StoreParameters, StoreRecord

OUT = Path(__file__).resolve().parents[1] / "docs" / "explanation" / "tables" / "scale" / "streaming.csv"
SIZE, SLICES, SCANS, BATCH = 128, 100, 200, 20
STEP_S = 0.03
"""A training step that is waited for between batches, seconds: that of a fast GPU is about 10 ms."""


def make_record(shards: int) -> StoreRecord:
    """The record of a made-up store, its arrays in this number of files."""
    entry = ScanEntry(
        case="",
        patient="",
        slices=SLICES,
        stamp=(FileStamp("/none", 1, 1), FileStamp(None, 0, 0)),
        image_sha256="0" * 64,
        labels_sha256=None,
        fingerprint="",
        z_mm=5.0,
        row_mm=3.0,
        column_mm=3.0,
        values=(),
        present=((),) * SLICES,
    )
    scans = tuple(replace(entry, case=f"s{i}", patient=f"s{i}", fingerprint=str(i)) for i in range(SCANS))
    parameters = StoreParameters(
        size=SIZE,
        intensity=IntensityScale("ct", -160.0, 240.0),
        targets={},
        patient_pattern="(.+)",
        split=SplitParameters(fractions=(0.1, 0.1), seed=0),
    )
    made = StoreRecord(parameters=parameters, scans=scans)
    return made if shards == 1 else replace(made, shards=(SCANS // shards * SLICES,) * shards)


def make_store(folder: Path, shards: int) -> SliceStore:
    """Write noise, which no disk compresses."""
    if (folder / "store.json").is_file():
        return SliceStore.open(folder)
    folder.mkdir(parents=True)
    record, rng = make_record(shards), np.random.default_rng(0)
    for name, dtype in ARRAYS.items():
        for file in list_files(folder, name, SCANS * SLICES, record.shards or ()):
            shape = (len(file.rows), SIZE, SIZE)
            array = np.lib.format.open_memmap(file.path, "w+", dtype, shape)
            for i in range(len(array)):
                array[i] = rng.integers(0, 15360, (SIZE, SIZE), np.uint16).view(np.float16) if name == "images" else 0
            array.flush()
    build_index(record.scans, ()).to_parquet(folder / "slices.parquet", index=False)
    Split(train=tuple(scan.case for scan in record.scans), validation=(), test=()).write(folder / "split.json")
    record.write(folder / "store.json")
    return SliceStore.open(folder)


def forget(folder: Path) -> None:
    """Ask the system to drop the files from its cache."""
    for path in folder.glob("*.npy"):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def batches_per_second(source: SliceSource, wait: float) -> float:
    """Random batches a second, over one pass or five seconds, with a training step's time between them."""
    rows = np.arange(SCANS * SLICES)
    begun, done = time.perf_counter(), 0
    for _ in source.stream(shuffled_batches(rows, BATCH, 0, 0)):
        time.sleep(wait)
        done += 1
        if time.perf_counter() - begun > 5:
            break
    return done / (time.perf_counter() - begun)


def measure(folder: Path, shards: int) -> Iterator[dict[str, str]]:
    """Each way to read the store, one row."""
    store = make_store(folder, shards)
    for way, resident, cold in (
        ("resident", True, False),
        ("mapped, cached", False, False),
        ("mapped, cold", False, True),
    ):
        speeds = []
        for wait in (0.0, STEP_S):
            source = SliceSource(store, torch.device("cpu"), with_labels=True, resident=resident)
            if cold:
                del source  # its mapping keeps the pages
                store = SliceStore.open(folder)
                forget(folder)
                source = SliceSource(store, torch.device("cpu"), with_labels=True, resident=False)
            elif not resident:
                batches_per_second(source, 0.0)  # fills the cache
            speeds.append(batches_per_second(source, wait))
        yield {
            "files": str(shards),
            "way": way,
            "slices/s, reading only": f"{speeds[0] * BATCH:.0f}",
            f"slices/s, with a step of {1000 * STEP_S:.0f} ms": f"{speeds[1] * BATCH:.0f}",
        }


def main() -> None:
    """Make the stores where they are missing, and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    rows = [row for shards in (1, 4) for row in measure(folder / str(shards), shards)]
    print(*rows, sep="\n")
    OUT.parent.mkdir(parents=True, exist_ok=True)
    with OUT.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
