"""Speed and memory of everything, each figure beside others of the same run.

    python benchmarks/bench.py [--only NAME …] [--against SRC] [--rounds 3] [--out FILE.json]
        [--into FILE.json]

Every case has several ways of doing the same work: frugalseg's, and for example a published program's or another
library's. With `--against`, the folder `src` of another checkout (`git worktree add --detach before COMMIT`),
frugalseg's way is also run on that code. The ways take turns, each in a process of its own with one thread, so that
other load on the machine affects all of them. The table shows the minimum over the rounds, in CPU seconds unless the
case says otherwise, and how it compares with frugalseg's.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from rich.console import Console
from rich.table import Table

from cases import GROUPS
from measure import OURS, Case, Cost, Setting, Skipped, peak_mb

SOURCE = Path(__file__).resolve().parents[1] / "src"
BEFORE = "before"
TURN_S = 0.5
PACKAGES = ("torch", "numpy", "scipy", "kornia", "monai", "transformers", "scikit-image")


@dataclass
class Timings:
    """What was measured of one way.

    Attributes:
        way: its name, or `BEFORE` for frugalseg's way in the other checkout.
        seconds: one per round, by the case's clock.
        peak_mb: of its process, MiB; None where the case does not report it.
        reason: why there are no timings.
    """

    way: str
    seconds: list[float] = field(default_factory=list)
    peak_mb: float | None = None
    reason: str = ""

    def to_json(self, ours: Timings) -> dict[str, Any]:
        """With minimum, median, and the ratio of the minima."""
        figures: dict[str, Any] = {}
        if self.seconds:
            figures = {"minimum": min(self.seconds), "median": statistics.median(self.seconds)}
            if ours.seconds:
                figures["ratio"] = min(self.seconds) / min(ours.seconds)
        return asdict(self) | figures


class Worker:
    """A process that builds one way of a case and does one turn whenever it is told to.

    Between its turns it is stopped, since the idle threads of `OMP_WAIT_POLICY=ACTIVE` would occupy the cores.
    """

    def __init__(self, case: Case, way: str, source: Path, folder: Path, device: str) -> None:
        folder.mkdir(exist_ok=True)
        self.case, self.device, self.log = case, device, folder / f"{way}.log"
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **case.environment.get(way, {}), "PYTHONPATH": str(source)}
        command = [sys.executable, __file__, "--device", device, "--work", case.name, way, str(folder)]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )
        self.timings = Timings(way)

    def wait(self) -> None:
        """Until the way is built."""
        self._read()
        self.process.send_signal(signal.SIGSTOP)

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.timings.reason = "failed: " + (self.log.read_text().strip().splitlines() or ["no message"])[-1]
            return {}
        answer: dict[str, Any] = json.loads(line)
        self.timings.reason = answer.pop("skipped", "")
        return answer

    def take_turn(self) -> None:
        """Do the work once, unless it cannot be done."""
        if self.timings.reason:
            return
        assert self.process.stdin is not None
        self.process.send_signal(signal.SIGCONT)
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        answer = self._read()
        self.process.send_signal(signal.SIGSTOP)
        if answer:
            clock = "wall" if self.device == "cuda" else self.case.clock
            self.timings.seconds.append(answer[clock])
            self.timings.peak_mb = answer["peak_mb"] if self.case.memory else None

    def close(self) -> None:
        """End the process."""
        self.process.send_signal(signal.SIGCONT)
        self.process.communicate()


def work(case: Case, way: str, setting: Setting, answers: IO[str]) -> None:
    """What a worker's process does: build, then one turn for every line of the input.

    Short work is repeated for `TURN_S`, and its quickest repetition counts.
    """

    def answer(**values: object) -> None:
        print(json.dumps(values), file=answers, flush=True)

    try:
        turn = case.ways[way](setting)
    except Skipped as reason:
        answer(skipped=str(reason))
        return
    answer()
    for _ in sys.stdin:
        begun, costs = time.perf_counter(), [turn()]
        while time.perf_counter() - begun < TURN_S:
            costs.append(turn())
        answer(cpu=min(c.cpu for c in costs), wall=min(c.wall for c in costs), peak_mb=peak_mb())


def measure(case: Case, rounds: int, sources: dict[str, Path], folder: Path, device: str) -> list[Timings]:
    """The timings of all ways of a case, frugalseg's first."""
    ways = [(way, way, SOURCE) for way in case.ways]
    ways[1:1] = [(name, OURS, source) for name, source in sources.items()]
    workers = []
    for name, way, source in ways:
        workers.append(Worker(case, way, source, folder / (BEFORE if name == BEFORE else OURS), device))
        workers[-1].timings.way = name
    try:
        for worker in workers:
            worker.wait()
        for _ in range(rounds):
            for worker in workers:
                worker.take_turn()
    finally:
        for worker in workers:
            worker.close()
    return [worker.timings for worker in workers]


def smoke(folder: Path) -> Iterator[tuple[str, str, Cost | str]]:
    """Run every way once at its smallest size, in this process; of ways that differ only in values, the first.

    Yields:
        Case, way, and its cost or why it was skipped.
    """
    done = set()
    for case in (case for cases in GROUPS.values() for case in cases):
        for way, build in case.ways.items():
            kind = (getattr(build, "func", build), *getattr(build, "keywords", ()))
            if kind in done:
                continue
            done.add(kind)
            try:
                yield case.name, way, build(Setting(folder, smoke=True))()
            except Skipped as reason:
                yield case.name, way, str(reason)


def find_commit(source: Path) -> str:
    """Short hash of the commit that is checked out at `source`, with + for changes; "" outside of git."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", source, *arguments], capture_output=True, text=True).stdout.strip()

    return git("rev-parse", "--short=7", "HEAD") + ("+" if git("status", "--porcelain", "--", ".") else "")


def describe_machine(device: str) -> str:
    """Processor, cores, and the GPU where one is measured."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    machine = f"{names[0] if names else platform.processor() or platform.machine()}, {cores} cores"
    if device != "cpu":
        import torch

        machine = f"{torch.cuda.get_device_name()}, {machine}"
    return machine


def describe_run(device: str, against: Path | None) -> dict[str, Any]:
    """Machine, commits and versions."""
    return {
        "machine": describe_machine(device),
        "commit": find_commit(SOURCE),
        "before": find_commit(against) if against else None,
        "date": date.today().isoformat(),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in PACKAGES},
        "load": round(os.getloadavg()[0], 1),
    }


def merge(earlier: dict[str, Any], report: dict[str, Any]) -> dict[str, Any]:
    """An earlier report with the cases of this one, each of which states its commit, in place of its own."""
    for fact in ("machine", "before", "python", "versions"):
        if earlier[fact] != report[fact]:
            raise SystemExit(f"--into: the earlier report has another {fact}: {earlier[fact]}, here {report[fact]}")
    stated = {key: report[key] for key in ("commit", "date", "load")}
    new = {case["name"]: case | stated for case in report["cases"]}
    cases = [new.pop(case["name"], case) for case in earlier["cases"]]
    return earlier | {"cases": [*cases, *new.values()]}


def write(report: dict[str, Any], path: Path) -> None:
    """Write a report as JSON."""
    path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def show(report: dict[str, Any]) -> None:
    """Print everything as one table."""
    from doc_tables import format_seconds  # it imports frugalseg, which workers do from another checkout

    table = Table(title=f"{report['machine']}, commit {report['commit']}", title_justify="left")
    for column in ("", "per", "way", "minimum", "median", "× frugalseg", "MiB"):
        table.add_column(column, justify="left" if column in ("", "per", "way") else "right")
    for case in report["cases"]:
        for i, way in enumerate(case["ways"]):
            head = (case["name"], case["unit"]) if i == 0 else ("", "")
            if not way["seconds"]:
                table.add_row(*head, way["way"], way["reason"])
                continue
            ratio, peak = way.get("ratio"), way["peak_mb"]
            times = (format_seconds(way["minimum"]), format_seconds(way["median"]))
            last = (f"{ratio:.2f}" if ratio and i else "", f"{peak:.0f}" if peak else "")
            table.add_row(*head, way["way"], *times, *last, end_section=i == len(case["ways"]) - 1)
    Console(width=150).print(table)


def choose(names: Sequence[str], device: str) -> Iterator[tuple[str, Case]]:
    """Groups and cases of which a name contains one of `names`, or all; the GPU's only where one is measured."""
    for group, cases in GROUPS.items():
        for case in cases:
            wanted = not names or any(name in f"{group}: {case.name}" for name in names)
            if wanted and (group != "GPU" or device == "cuda"):
                yield group, case


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line; `--work` is how a worker is started."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="parts of the names of cases or groups")
    parser.add_argument("--against", type=Path, metavar="SRC", help="src folder of another checkout")
    parser.add_argument("--rounds", type=int, default=3, help="turns of every way")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument(
        "--into", type=Path, metavar="FILE", help="report of the same machine and versions whose cases to replace"
    )
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="where trainings and predictions run")
    parser.add_argument("--smoke", action="store_true", help="run everything once at its smallest size")
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def measure_all(options: argparse.Namespace, folder: Path, report: dict[str, Any]) -> None:
    """Measure the chosen cases; after each, add it to the report and write that."""
    earlier = json.loads(options.into.read_text(encoding="utf-8")) if options.into else {}
    sources = {BEFORE: options.against.resolve()} if options.against else {}
    for group, case in choose(options.only, options.device):
        print(f"{group}: {case.name}", file=sys.stderr, flush=True)
        timings = measure(case, options.rounds, sources, folder, options.device)
        entry = {"group": group, "name": case.name, "unit": case.unit, "clock": case.clock}
        report["cases"].append(entry | {"ways": [way.to_json(timings[0]) for way in timings]})
        if options.out:
            write(report, options.out)
        if options.into:
            write(merge(earlier, report), options.into)


def main(arguments: Sequence[str]) -> None:
    """Measure, print and write what is asked for."""
    options = parse(arguments)
    if options.work:
        name, way, folder = options.work
        [case] = [case for cases in GROUPS.values() for case in cases if case.name == name]
        answers = sys.stdout
        with contextlib.redirect_stdout(sys.stderr):  # commands print
            work(case, way, Setting(Path(folder), device=options.device), answers)
        return
    with tempfile.TemporaryDirectory() as folder:
        if options.smoke:
            for line in smoke(Path(folder)):
                print(*line, sep=", ", flush=True)
            return
        report = describe_run(options.device, options.against) | {"rounds": options.rounds, "cases": []}
        try:
            measure_all(options, Path(folder), report)
        finally:  # also where it is interrupted
            show(report)


if __name__ == "__main__":
    main(sys.argv[1:])
