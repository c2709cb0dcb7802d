"""Read many corrupted files, each in a process that may end or hang, and count what happens.

    python -m tests.imaging.fuzz_readers --files 10000 --seed 0 --keep FOLDER

The same seed gives the same files. A reader may read a corrupted file (not every byte matters) or refuse it by a
`ScanError` (a mask also by a `PairingError`); everything else is a fault, and ends the program with 1.
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from frugalseg.errors import PairingError, ScanError
from tests.imaging.mutations import SCAN, Original, mutate, originals

READ, REFUSED, CRASH, HANG, OTHER = "read", "ScanError", "crash", "hang", "other exception"
OUTCOMES = (READ, REFUSED, CRASH, HANG, OTHER)
FAULTS = (CRASH, HANG, OTHER)

TIMEOUT_S = 30.0
MEMORY = 4 << 30
"""Bytes of address space that a reading process may take."""


@dataclass(frozen=True)
class Result:
    """What became of one file.

    Attributes:
        number: of the file; with the seed, it makes the file again.
        kind: the format.
        outcome: one of `OUTCOMES`.
        detail: the exception's class and message, or the exit code.
    """

    number: int
    kind: str
    outcome: str
    detail: str = ""


def read_one(path: Path) -> tuple[str, str]:
    """Read a scan as image and as mask, bring it to canonical axes, and say what happened.

    A file beside `mutations.SCAN` is a mask, and read onto the grid of that scan.
    """
    from frugalseg.imaging.find import find_masks
    from frugalseg.imaging.fingerprint import fingerprint
    from frugalseg.imaging.labels import read_labels_on
    from frugalseg.imaging.read import read_labels, read_volume
    from frugalseg.imaging.volume import canonical

    try:
        if (scan := path.parent / SCAN).is_file():
            find_masks(path.parent)
            read_labels_on(path, read_volume(scan), "case")
            return READ, ""
        upright, reorientation = canonical(read_volume(path))
        fingerprint(upright)
        reorientation.undo(upright.array)
        read_labels(path)
    except (ScanError, PairingError) as error:
        return REFUSED, str(error)
    except BaseException as error:
        return OTHER, f"{type(error).__name__}: {error}"[:300]
    return READ, ""


def serve(pipe: Connection, memory: int) -> None:
    """Read each path that comes through the pipe, until None comes."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    while (path := pipe.recv()) is not None:
        pipe.send(read_one(path))


class Reader:
    """A process that reads, and is started again where it ended or hung."""

    _target = staticmethod(serve)

    def __init__(self, timeout: float, memory: int) -> None:
        self.timeout, self.memory = timeout, memory
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=self._target, args=(theirs, self.memory), daemon=True)
        self.process.start()
        theirs.close()

    def read(self, path: Path) -> tuple[str, str]:
        """What happens when `path` is read."""
        self.pipe.send(path)
        try:
            if self.pipe.poll(self.timeout):
                outcome: tuple[str, str] = self.pipe.recv()
                return outcome
            outcome = HANG, f"nothing after {self.timeout:g} s"
        except (EOFError, ConnectionError):
            self.process.join()
            outcome = CRASH, f"exit code {self.process.exitcode}"
        self.process.kill()
        self.process.join()
        self._start()
        return outcome

    def close(self) -> None:
        """End the process."""
        self.pipe.send(None)
        self.process.join()


def write_corrupted(original: Original, seed: int, number: int, folder: Path) -> Path:
    """Write corrupted file `number` of a seed with all it needs; returns what is to be read."""
    folder.mkdir(parents=True)
    path = original.write(folder, mutate(original, np.random.default_rng([seed, number])))
    return folder if original.name == "0.dcm" and number % 2 else path


def run(
    files: int,
    seed: int,
    workers: int = 1,
    keep: Path | None = None,
    timeout: float = TIMEOUT_S,
    only: Sequence[str] = (),
) -> list[Result]:
    """Read `files` corrupted files, of the formats `only` or of all; those that show a fault are copied to `keep`."""
    with tempfile.TemporaryDirectory() as place, ThreadPoolExecutor(workers) as pool:
        whole = Path(place) / "whole"
        whole.mkdir()
        kinds = [original for original in originals(whole) if not only or original.kind in only]

        def share(first: int) -> list[Result]:
            reader, results = Reader(timeout, MEMORY), []
            for number in range(first, files, workers):
                original, folder = kinds[number % len(kinds)], Path(place) / str(number)
                outcome, detail = reader.read(write_corrupted(original, seed, number, folder))
                results.append(Result(number, original.kind, outcome, detail))
                if keep is not None and outcome in FAULTS:
                    shutil.copytree(folder, keep / f"{seed}-{number}", dirs_exist_ok=True)
                shutil.rmtree(folder)
            reader.close()
            return results

        return sorted((r for part in pool.map(share, range(workers)) for r in part), key=lambda r: r.number)


def table(results: list[Result]) -> str:
    """Counts of each outcome for each format, as a Markdown table."""
    counts = Counter((r.kind, r.outcome) for r in results)
    kinds = sorted({r.kind for r in results})
    rows = [("format", "files", *OUTCOMES)]
    rows += [(k, str(sum(counts[k, o] for o in OUTCOMES)), *(str(counts[k, o]) for o in OUTCOMES)) for k in kinds]
    rows += [("all", str(len(results)), *(str(sum(counts[k, o] for k in kinds)) for o in OUTCOMES))]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="folder for files that show a fault")
    parser.add_argument("--only", nargs="+", default=(), help="formats, such as RTSTRUCT")
    arguments = parser.parse_args()
    results = run(arguments.files, arguments.seed, arguments.workers, arguments.keep, only=arguments.only)
    print(table(results))
    faults = [r for r in results if r.outcome in FAULTS]
    for fault in faults:
        print(f"file {fault.number} ({fault.kind}): {fault.outcome}, {fault.detail}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
