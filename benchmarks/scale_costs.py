"""Measure what one scan costs, on this machine, for `simulated_scale.py`: seconds of one thread, and bytes.

    OMP_NUM_THREADS=1 python benchmarks/scale_costs.py /tmp/scale-costs

Writes costs.csv, and checks.csv: the model's forecast and the measured time of a larger scan, of more scans, and of two
workers. Phantoms are as large as CT scans, but compress worse than most, since their noise is drawn for every voxel.
"""

from __future__ import annotations

import argparse
import csv
import os
import resource
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from frugalseg.commands.finetune import finetune
from frugalseg.commands.predict import predict
from frugalseg.dataset.prepare import prepare
from frugalseg.dataset.store import SliceStore, build_index
from frugalseg.options import FinetuneOptions, PredictOptions, PrepareOptions, PretrainOptions
from frugalseg.phantoms.cohort import PhantomOptions, write_cohort
from frugalseg.pretraining.pretrain import pretrain
from frugalseg.records.store import StoreRecord

OUT = Path(__file__).resolve().parents[1] / "docs" / "explanation" / "tables" / "scale"
SHAPE = (320, 320, 48)
LARGER = (512, 512, 48)
SCANS = 4
SIZE = 128
STEPS, BATCH = 6, 20
COPIES = 3
INDEXED = 2_000
"""Scans of the made-up index by which the cost of a scan's entry is measured."""


def cpu_seconds(action: Callable[[], object]) -> float:
    """Seconds of one processor that this process uses."""
    before = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    action()
    return sum(resource.getrusage(resource.RUSAGE_SELF)[:2]) - before


def wall_seconds(action: Callable[[], object]) -> float:
    """Seconds by the clock."""
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def count_bytes(folder: Path) -> int:
    """Size of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def repeat_scans(folder: Path) -> None:
    """Link every phantom under several names: more scans, made at once."""
    for kind in ("images", "labels"):
        (folder / "more" / kind).mkdir(parents=True, exist_ok=True)
        for path in (folder / "scans" / kind).iterdir():
            for copy in range(COPIES):
                link = folder / "more" / kind / f"copy{copy}-{path.name}"
                if not link.exists():
                    os.link(path, link)


def resident_bytes() -> int:
    """Memory that this process holds."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def prepare_cohort(folder: Path, name: str, workers: int = 0) -> SliceStore:
    """Prepare phantoms again."""
    out = folder / f"store-{name}"
    shutil.rmtree(out, ignore_errors=True)
    images, labels = folder / name / "images", folder / name / "labels"
    return prepare(
        PrepareOptions(images=images, labels=labels, target=["liver=6"], size=SIZE, out=out, workers=workers, threads=1)
    )


def measure_scan(folder: Path) -> dict[str, float]:
    """What one scan of `SHAPE` costs."""
    store = prepare_cohort(folder, "scans")  # loads what is loaded once
    model, masks = folder / "model", folder / "masks"
    for path in (model, masks, folder / "encoder", folder / "encoder2"):
        shutil.rmtree(path, ignore_errors=True)
    images = folder / "scans" / "images"
    common = {"data": store.folder, "device": "cpu", "precision": "32", "threads": 1}
    finetune(FinetuneOptions(out=model, budget="1 scans", steps=2, batch_size=4, **common))

    def learn(name: str, steps: int) -> float:
        options = PretrainOptions(out=folder / name, method="simclr", steps=steps, batch_size=BATCH, **common)
        return cpu_seconds(lambda: pretrain(options))

    def segment() -> None:
        shutil.rmtree(masks, ignore_errors=True)
        predict(PredictOptions(model=model, images=images, out=masks, device="cpu", precision="32", threads=1))

    segment()
    slices = SHAPE[2]
    begin = learn("encoder", 1)
    return {
        "voxels": float(SHAPE[0] * SHAPE[1] * slices),
        "slices": float(slices),
        "scan_bytes": count_bytes(images) / SCANS,
        "prepare_s": cpu_seconds(lambda: prepare_cohort(folder, "scans")) / SCANS,
        "store_bytes": count_bytes(store.folder) / SCANS,
        "step_s": (learn("encoder2", 1 + STEPS) - begin) / STEPS,
        "slices_per_step": float(BATCH),
        "predict_s": cpu_seconds(segment) / SCANS,
        "mask_bytes": count_bytes(masks) / SCANS,
        **measure_index(store, folder),
    }


def measure_index(store: SliceStore, folder: Path) -> dict[str, float]:
    """Seconds and memory that one scan costs where all scans are listed: store.json and slices.parquet."""
    scans = tuple(replace(store.record.scans[0], case=f"scan{i}", patient=f"scan{i}") for i in range(INDEXED))
    whole = replace(store.record, scans=scans)
    path = folder / "index.json"
    write = cpu_seconds(lambda: (whole.write(path), build_index(scans, store.targets)))
    before = resident_bytes()
    held: list[object] = []
    read = cpu_seconds(lambda: held.extend([(record := StoreRecord.read(path)), build_index(record.scans, ["liver"])]))
    memory = resident_bytes() - before
    return {
        "index_write_s": write / INDEXED,
        "index_read_s": read / INDEXED,
        "index_bytes": path.stat().st_size / INDEXED,
        "index_memory": max(0, memory) / INDEXED,
    }


def check_model(folder: Path, costs: Mapping[str, float]) -> list[dict[str, str]]:
    """The forecast from a scan of `SHAPE`, and what was measured."""
    voxels = LARGER[0] * LARGER[1] * LARGER[2]
    larger = costs["prepare_s"] * voxels / costs["voxels"]
    one = wall_seconds(lambda: prepare_cohort(folder, "scans", workers=1))
    two = wall_seconds(lambda: prepare_cohort(folder, "scans", workers=2))
    measured = cpu_seconds(lambda: prepare_cohort(folder, "larger"))
    more = cpu_seconds(lambda: prepare_cohort(folder, "more")) / (COPIES * SCANS)
    checks = [
        (f"CPU time to prepare a scan of {'×'.join(map(str, LARGER))}, s", larger, measured),
        (f"CPU time to prepare each of {COPIES * SCANS} scans, s", costs["prepare_s"], more),
        (f"elapsed time of two workers for {SCANS} scans, s (one: {one:.1f})", one / 2, two),
    ]
    return [
        {"what": what, "model": f"{model:.2f}", "measured": f"{found:.2f}", "measured / model": f"{found / model:.2f}"}
        for what, model, found in checks
    ]


def write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write a table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    """Make the phantoms where they are missing, and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder.resolve()
    for name, shape, count in (("scans", SHAPE, SCANS), ("larger", LARGER, 1)):
        if not (folder / name).is_dir():
            write_cohort(folder / name, count, 0, PhantomOptions(shape))
    repeat_scans(folder)
    costs = measure_scan(folder)
    write_csv(OUT / "costs.csv", [{"cost": name, "value": f"{value:.6g}"} for name, value in costs.items()])
    checks = check_model(folder, costs)
    write_csv(OUT / "checks.csv", checks)
    load = os.getloadavg()[0]
    print(costs, *checks, f"load {load:.1f} on {os.cpu_count()} cores", sep="\n")


if __name__ == "__main__":
    main()
