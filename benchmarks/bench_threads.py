"""Threads on an idle and on a busy machine: time of a training step, and of a forward pass over a scan's slices.

Each figure is measured in a separate process, since OpenMP reads its wait policy when it is loaded. On the busy machine
one endless loop per core runs in parallel.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time

from frugalseg.engine.threads import usable_cores
from tables import show

SIZE, SECONDS = 128, 8.0
NEIGHBOUR = "while True: pass"


def main() -> None:
    cores = usable_cores()
    rows = []
    for busy in (False, True):
        neighbours = [subprocess.Popen([sys.executable, "-c", NEIGHBOUR]) for _ in range(cores * busy)]
        try:
            for threads in sorted({1, 2, cores}):
                for policy in ("ACTIVE", "PASSIVE") if threads > 1 else ("PASSIVE",):
                    step, scan = _measure(threads, policy)
                    where = f"{'busy' if busy else 'idle'}, {threads} threads, {policy.lower()}"
                    rows.append((where, f"{1000 * step:.0f} / {1000 * scan:.0f} ms", ""))
        finally:
            for neighbour in neighbours:
                neighbour.kill()
                neighbour.wait()
    show(f"Fine-tuning step / forward pass over 40 slices of {SIZE}², {cores} cores", rows)


def _measure(threads: int, policy: str) -> tuple[float, float]:
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": policy}
    done = subprocess.run([sys.executable, __file__, "child"], env=environment, capture_output=True, check=True)
    step, scan = json.loads(done.stdout)
    return step, scan


def child() -> None:
    """Print median seconds of a training step and of a forward pass, as JSON."""
    import torch

    from bench_training import _finetune
    from frugalseg.models.registry import build_segmenter
    from frugalseg.segmentation.presets import PRESETS

    step = _finetune(torch.device("cpu"), recorded=False)
    network = build_segmenter("unet", 1, PRESETS["robust"].norm).eval()
    slices = torch.rand(4, 1, SIZE, SIZE)

    def scan() -> None:
        with torch.inference_mode():
            for _ in range(10):
                network(slices)

    print(json.dumps([_median(lambda: step("32")), _median(scan)]))


def _median(work) -> float:
    work()
    times: list[float] = []
    while len(times) < 3 or (sum(times) < SECONDS and len(times) < 15):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


if __name__ == "__main__":
    child() if sys.argv[1:] == ["child"] else main()
