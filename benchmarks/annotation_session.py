"""A whole session of `frugalseg annotate`, driven by a program that outlines slices from reference masks.

    python benchmarks/annotation_session.py IMAGES REFERENCES --target liver=6 --folder FOLDER --csv FILE.csv

The program starts the server on the first --scans scans and speaks to it as the page does. Round 1: it outlines the
slices that the server suggests; where such a slice does not show the organ, it is outlined as empty, and the nearest
one of the same scan that does is outlined too. It trains, and compares the predicted masks with the references. Round
2, on copies of the session as it then is: it corrects as many slices, the least certain ones, random ones that show the
organ, or those with the most pixels expected to be wrong, at most one a scan; it trains again from the last model (with
--both-starts from scratch, too), and compares again.
Slices that are labels by then are left out of each comparison.

Compute: CPU time of the commands that the server runs, from /proc (Linux only), and the time that the jobs took.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from os import sysconf
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import numpy.typing as npt

from frugalseg.imaging.find import find_scans

Mask = npt.NDArray[np.bool_]
Place = tuple[str, int]
"""Case and slice."""
NIFTI_HEADER = 352
LABELLED = ("outlined", "reviewed")
RANDOM, UNCERTAIN, ERRORS, SUGGESTED = "random", "least certain", "most expected errors", "suggested"
LAST_MODEL, SCRATCH = "last model", "scratch"
WAYS = (UNCERTAIN, RANDOM, ERRORS)
"""Ways to choose the slices of round 2."""


@dataclass(frozen=True)
class Cost:
    """CPU time of a job, and the time from its begin to its end, in seconds."""

    cpu_seconds: float
    seconds: float


@dataclass(frozen=True)
class Round:
    """One round of a session.

    Attributes:
        round: 1, or 2.
        chosen: how its slices were chosen.
        start: what its training started from.
        slices, showing: number of slices outlined so far, and of those that show the organ.
        cpu_minutes, minutes: of its jobs: CPU time, and from begin to end.
        scans: number of scans compared.
        dice, lowest: Dice of a scan in its predicted slices: mean over the scans, and lowest.
        new_scans: number of scans in which no slice is outlined.
        new_dice: mean Dice of these; None without any.
    """

    round: int
    chosen: str
    start: str
    slices: int
    showing: int
    cpu_minutes: float
    minutes: float
    scans: int
    dice: float
    lowest: float
    new_scans: int
    new_dice: float | None


@dataclass(frozen=True)
class Server:
    """A running server, its process, and the value of the label that is outlined."""

    address: str
    process: int
    value: int

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> bytes:
        """The answer to a request; raises `RuntimeError` with the server's message where it is refused."""
        given = {"X-Frugalseg": "1", **{name.replace("_", "-"): value for name, value in headers.items()}}
        request = urllib.request.Request(self.address + path, body, given, method=method)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                content: bytes = answer.read()
                return content
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{method} {path}: {error.code} {error.read().decode(errors='replace')}") from None

    def read(self, path: str) -> Any:
        """The JSON of a page of the API."""
        return json.loads(self.ask("GET", path))

    def cases(self) -> list[str]:
        """All scans."""
        return [case["id"] for case in self.read("/api/state")["cases"]]

    def slices(self, case: str) -> list[dict[str, Any]]:
        """The state of every slice of a scan."""
        states: list[dict[str, Any]] = self.read(f"/api/cases/{case}")["slices"]
        return states

    def is_labelled(self, case: str) -> Mask:
        """Whether each slice is a label."""
        return np.array([state["source"] in LABELLED for state in self.slices(case)])

    def mask(self, case: str) -> Mask:
        """The mask of a scan, (slices, rows, columns)."""
        columns, rows, slices = self.read(f"/api/cases/{case}")["shape"]
        values = np.frombuffer(self.ask("GET", f"/api/cases/{case}/mask"), np.uint8, offset=NIFTI_HEADER)
        mask: Mask = values.reshape(slices, rows, columns) == self.value
        return mask

    def reference(self, case: str) -> Mask:
        """The reference of a scan, (slices, rows, columns)."""
        columns, rows, slices = self.read(f"/api/cases/{case}")["shape"]
        planes = [self.ask("GET", f"/api/references/{case}/slices/{z}/mask") for z in range(slices)]
        mask: Mask = np.frombuffer(b"".join(planes), np.uint8).reshape(slices, rows, columns) == self.value
        return mask

    def outline(self, place: Place, wanted: Mask) -> None:
        """Look at a slice, and draw a mask (rows, columns) in it."""
        case, z = place
        self.ask("GET", f"/api/cases/{case}/slices/{z}/image")
        body = (wanted * np.uint8(self.value)).astype(np.uint8).tobytes()
        headers = {"If_Match": str(self.slices(case)[z]["version"]), "X_Tool": "polygon"}
        headers["Content_Type"] = "application/octet-stream"
        self.ask("PUT", f"/api/cases/{case}/slices/{z}/mask", body, **headers)

    def work(self, kind: str, options: dict[str, Any]) -> Cost:
        """Run a job to its end; raises `RuntimeError` where it fails."""
        before, message = self.cpu_seconds(), json.dumps({"kind": kind, "options": options}).encode()
        number = json.loads(self.ask("POST", "/api/jobs", message, Content_Type="application/json"))["id"]
        while not (job := next(job for job in self.read("/api/jobs") if job["id"] == number))["ended"]:
            time.sleep(1)
        if job["state"] != "done":
            raise RuntimeError(f"{kind}: {job['state']}: {job['message']} ({job['hint']})\n" + "\n".join(job["log"]))
        seconds = (datetime.fromisoformat(job["ended"]) - datetime.fromisoformat(job["started"])).total_seconds()
        print(f"{kind}: {job['message']}; {seconds:.0f} s", file=sys.stderr, flush=True)
        return Cost(self.cpu_seconds() - before, seconds)

    def cpu_seconds(self) -> float:
        """CPU time of the commands that the server has run so far."""
        after_name = Path(f"/proc/{self.process}/stat").read_text().rpartition(")")[2].split()
        return (int(after_name[13]) + int(after_name[14])) / sysconf("SC_CLK_TCK")


@contextmanager
def serve(arguments: argparse.Namespace, out: Path) -> Iterator[Server]:
    """A server on the scans of the session, which ends with the block."""
    command = [sys.executable, "-m", "frugalseg", "annotate", "--images", arguments.folder / "scans", "--out", out]
    command += ["--references", arguments.references, "--target", arguments.target]
    command += ["--threads", arguments.threads, "--port", 0, "--no-browser"]
    with (arguments.folder / f"{out.name}.log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen([*map(str, command)], stdout=log, stderr=log, start_new_session=True)
        try:
            yield Server(_wait_for_address(process, Path(log.name)), process.pid, int(arguments.target.split("=")[1]))
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def _wait_for_address(process: subprocess.Popen[bytes], log: Path) -> str:
    while process.poll() is None:
        if found := re.findall(r"^open (http://[^\s/]+)", log.read_text(encoding="utf-8"), re.MULTILINE):
            return str(found[-1])
        time.sleep(0.2)
    raise RuntimeError(f"the server has ended:\n{log.read_text(encoding='utf-8')}")


def outline_suggested(server: Server, references: dict[str, Mask], count: int) -> None:
    """Outline the suggested slices, one after the other, and for empty ones also the nearest that show the organ."""
    for _ in range(count):
        suggestion = server.read("/api/state")["suggestion"]
        case, asked = suggestion["case"], suggestion["slice"]
        wanted = references[case]
        free = np.flatnonzero(wanted.any(axis=(1, 2)) & ~server.is_labelled(case))
        for z in sorted({asked, int(free[np.abs(free - asked).argmin()])}):
            server.outline((case, z), wanted[z])


def choose_least_certain(server: Server, count: int, by_area: bool) -> list[Place]:
    """The slice of each scan with the lowest confidence, and of these the lowest.

    With `by_area`, the slices with the most pixels times (1 − confidence): about the number of pixels expected to be
    wrong.
    """
    found = []
    for case in server.cases():
        areas = server.mask(case).sum(axis=(1, 2))
        known = [state for state in server.slices(case) if state["confidence"] is not None]
        scored = [
            ((state["confidence"] - 1) * areas[state["slice"]] if by_area else state["confidence"], state["slice"])
            for state in known
        ]
        found += [(*min(scored), case)] if scored else []
    return [(case, z) for _, z, case in sorted(found)[:count]]


def choose_random(server: Server, references: dict[str, Mask], count: int, seed: int) -> list[Place]:
    """Random slices that show the organ, each of another scan."""
    random = np.random.default_rng(seed)
    cases = random.permutation(server.cases())[:count].tolist()
    free = {case: np.flatnonzero(references[case].any(axis=(1, 2)) & ~server.is_labelled(case)) for case in cases}
    return [(case, int(random.choice(free[case]))) for case in cases]


def compare(
    server: Server, number: int, chosen: str, start: str, costs: Sequence[Cost], references: dict[str, Mask]
) -> Round:
    """The round that the jobs with these costs have ended."""
    marks = {case: server.is_labelled(case) for case in references}
    scores = {case: measure(server.mask(case), wanted, marks[case]) for case, wanted in references.items()}
    print({case: round(dice, 3) for case, dice in scores.items()}, file=sys.stderr, flush=True)
    new = [dice for case, dice in scores.items() if not marks[case].any()]
    return Round(
        round=number,
        chosen=chosen,
        start=start,
        slices=int(sum(labelled.sum() for labelled in marks.values())),
        showing=int(sum((references[case].any(axis=(1, 2)) & labelled).sum() for case, labelled in marks.items())),
        cpu_minutes=round(sum(cost.cpu_seconds for cost in costs) / 60, 1),
        minutes=round(sum(cost.seconds for cost in costs) / 60, 1),
        scans=len(scores),
        dice=round(fmean(scores.values()), 3),
        lowest=round(min(scores.values()), 3),
        new_scans=len(new),
        new_dice=round(fmean(new), 3) if new else None,
    )


def measure(mask: Mask, wanted: Mask, labelled: Mask) -> float:
    """Dice in the slices that are not labels."""
    drawn, true = mask[~labelled], wanted[~labelled]
    return float(2 * np.count_nonzero(drawn & true) / (np.count_nonzero(drawn) + np.count_nonzero(true)))


def choose(server: Server, chosen: str, references: dict[str, Mask], arguments: argparse.Namespace) -> list[Place]:
    """The slices to correct in round 2."""
    if chosen == RANDOM:
        return choose_random(server, references, arguments.slices, arguments.seed)
    return choose_least_certain(server, arguments.slices, by_area=chosen == ERRORS)


def run(arguments: argparse.Namespace) -> Iterator[Round]:
    """The rounds of the session, each as soon as it is measured."""
    _copy_scans(arguments)
    begun, options = arguments.folder / "begun", {} if arguments.steps is None else {"steps": arguments.steps}
    with serve(arguments, begun) as server:
        references = {case: server.reference(case) for case in server.cases()}
        suggesting = server.work("suggest", {})
        outline_suggested(server, references, arguments.slices)
        yield compare(server, 1, SUGGESTED, SCRATCH, [suggesting, server.work("train", options)], references)
    for chosen in arguments.then:
        out = arguments.folder / chosen.replace(" ", "-")
        shutil.copytree(begun, out)
        with serve(arguments, out) as server:
            for case, z in choose(server, chosen, references, arguments):
                server.outline((case, z), references[case][z])
            for start in (LAST_MODEL, SCRATCH) if arguments.both_starts else (LAST_MODEL,):
                cost = server.work("train", {**options, "from_scratch": start == SCRATCH})
                yield compare(server, 2, chosen, start, [cost], references)


def _copy_scans(arguments: argparse.Namespace) -> None:
    scans = arguments.folder / "scans"
    scans.mkdir(parents=True)
    for path in [*find_scans(arguments.images).values()][: arguments.scans]:
        shutil.copy(path, scans)  # the server opens no links to other folders


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description="A session of `frugalseg annotate`, outlined from references.")
    parser.add_argument("images", type=Path)
    parser.add_argument("references", type=Path)
    parser.add_argument("--target", required=True, help="what is outlined: name=value")
    parser.add_argument("--scans", type=int, default=12, help="number of scans, in the order of their names")
    parser.add_argument("--slices", type=int, default=5, help="number of slices to outline in each round")
    parser.add_argument("--then", nargs="*", choices=WAYS, default=WAYS)
    parser.add_argument("--both-starts", action="store_true", help="also train from scratch in round 2")
    parser.add_argument("--steps", type=int, help="of a training; by default the server's")
    parser.add_argument("--seed", type=int, default=0, help="of the random slices")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, required=True, help="a new folder for the session")
    parser.add_argument("--csv", type=Path, required=True, help="the table")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> None:
    """Play the session, and write its table after each round."""
    given = parse(arguments)
    with given.csv.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Round)], lineterminator="\n")
        writer.writeheader()
        for played in run(given):
            writer.writerow(asdict(played))
            file.flush()
    print(given.csv.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main(sys.argv[1:])
