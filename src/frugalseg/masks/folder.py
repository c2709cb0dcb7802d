"""A folder of masks and their predictions.json: written scan by scan, resumed after an interruption.

Used by every command that writes masks of whole scans.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from filelock import BaseFileLock

from frugalseg.engine.files import check_out, sha256
from frugalseg.engine.lock import is_in_use, lock_folder
from frugalseg.engine.parallel import format_failures, map_cases
from frugalseg.engine.pool import OneAfterAnother, Pool
from frugalseg.engine.progress import say
from frugalseg.errors import OptionError, RunError, ScanError, disk_errors
from frugalseg.imaging.find import find_dataset
from frugalseg.masks.output import OutputOptions, check_output, output_path
from frugalseg.masks.statistics import write_statistics
from frugalseg.masks.work import MadeMask, MaskWork
from frugalseg.options import OutputType, Resume
from frugalseg.records.predictions import PREDICTIONS_FILE, PredictionRecord
from frugalseg.text import pluralize

QUICK_S, WAIT = 0.05, 20
"""A record that took longer than this to write, that of thousands of scans, is written again after as many times that
time: so writing it takes a twentieth of the time."""
DIFFERENCES_SHOWN = 3
"""Number of differences that a message lists: another model differs in a dozen values."""


@dataclass(frozen=True)
class Words:
    """How messages name the work: (a) prediction, segmenting, segmented, predict."""

    noun: str
    doing: str
    done: str
    command: str


class FolderOptions(OutputOptions, Protocol):
    """The options of a command that fills a folder of masks."""

    @property
    def out(self) -> Path:
        """The folder."""

    @property
    def overwrite(self) -> bool:
        """Whether the folder may contain files."""

    @property
    def resume(self) -> Resume:
        """Whether to resume an interrupted run in it."""


class MaskFolder:
    """The folder of a command's masks. Create it with `claim`, which locks it for other processes until `fill` ends.

    Attributes:
        out: the folder.
        images: case id → scan.
        record: how the masks are made, with the records of the scans that are done.
        done: case id → mask, of the interrupted run that is resumed.
    """

    def __init__(
        self,
        out: Path,
        images: Mapping[str, Path],
        record: PredictionRecord,
        words: Words,
        lock: BaseFileLock,
        kind: OutputType,
    ) -> None:
        self.out, self.images, self.record, self.words, self._lock = out, dict(images), record, words, lock
        self._kind = kind
        self.done: dict[str, Path] = {}
        self._due = 0.0

    @classmethod
    def claim(
        cls,
        options: FolderOptions,
        images: Mapping[str, Path],
        record: PredictionRecord,
        same: Sequence[str],
        words: Words,
        beside: Sequence[str] = (),
    ) -> MaskFolder:
        """Lock the folder, and find the masks of an interrupted run.

        Args:
            options: the folder, and whether to overwrite or resume.
            images: case id → scan.
            record: what is known before the first scan.
            same: fields of the record that must not differ from those of a resumed run.
            words: for messages.
            beside: files and folders that do not make the folder count as in use.

        Raises:
            RunError: the folder is a file, in use, or locked by another process; it holds nothing to resume, or masks
                made with other options; or a mask would overwrite its scan.
            OptionError, ScanError: masks cannot be written in the format that is wanted, see `check_output`.
            DiskError: the folder cannot be created.
        """
        out = options.out
        check_out(out)
        kind = options.output_type
        check_output(options, images, record.targets)
        scans = {path.resolve() for path in images.values()}
        if over := [case for case, path in images.items() if output_path(out, case, path, kind).resolve() in scans]:
            raise RunError(f"the mask of {over[0]} would overwrite the scan itself", "choose another --out")
        before = None if options.resume == "no" else PredictionRecord.read_beside(out)
        if before is not None:
            _check_same_options(out, before, record, same, words)
        elif options.resume == "yes":
            raise RunError(f"--resume: {out} holds no {words.noun} to resume", "leave out --resume")
        elif not options.overwrite and is_in_use(out, *beside):
            raise RunError(f"{out} is in use", "choose another --out, or give --overwrite")
        folder = cls(out, images, record, words, lock_folder(out), kind)
        if before is not None:
            folder._take_over(before)
        else:
            with disk_errors(out):
                # An older record would be taken for that of the new masks.
                (out / PREDICTIONS_FILE).unlink(missing_ok=True)
        return folder

    def path(self, case: str) -> Path:
        """The file of a case's mask."""
        return output_path(self.out, case, self.images[case], self._kind)

    def fill(self, work: MaskWork[Any], device: str, pool: Pool | None = None) -> dict[str, Path]:
        """Make the missing masks; returns case id → mask. Each is written while the next one is made.

        Args:
            work: makes one mask.
            device: the device of this process, in words.
            pool: does the work; by default this process, one scan after the other.

        Raises:
            ScanError: some scans failed, after all others are written.
        """
        try:
            self._redo_incomplete(work)
            # Masks are made of one scan at a time: the networks use every core.
            return self._make_missing(work, device, pool or OneAfterAnother())
        finally:  # also where some scans failed
            write_statistics(self.out, self.record.statistics)
            self._lock.release()

    def _make_missing(self, work: MaskWork[Any], device: str, pool: Pool) -> dict[str, Path]:
        total = len(self.images)
        if self.done:
            say(f"already {self.words.done}: {len(self.done)} of {pluralize(total, 'scan')}")
        say(f"{self.words.doing} {pluralize(total - len(self.done), 'scan')} on {pool.describe(device)}")
        self._write_record()  # so that a run killed in its first scan can be resumed
        missing = {case: path for case, path in self.images.items() if case not in self.done}
        try:
            made, failures = pool.run(work, missing, self._keep, self.words.doing)
        except BaseException:
            self._write_record()
            raise
        # The record already lists scans that failed in an earlier command.
        failed = {**self.record.failed, **{case: error.problem for case, error in failures.items()}}
        ordered = self.record.select_cases([*self.done, *missing])  # on a cluster they end in any order
        self.record = replace(ordered, failed=failed)
        self._write_record()
        if failures:
            others = f", the others are in {self.out}" if len(failures) < total else ""
            not_done = f"{len(failures)} of {pluralize(total, 'scan')} not {self.words.done}{others}"
            raise ScanError(
                f"{not_done}:\n{format_failures(failures)}",
                f"repair or remove them, then rerun the same {self.words.command} command with --resume: "
                "it makes the missing masks",
            )
        return {case: (self.done | made)[case] for case in self.images}

    def _keep(self, case: str, made: MadeMask) -> Path:
        """Write the mask of a scan and its record."""
        path = self.path(case)
        made.write(path, self.images[case])
        record = replace(made.record, mask=path.name, scan=made.record.scan or sha256(self.images[case]))
        self.record = self.record.with_case(case, record)
        if time.monotonic() >= self._due:  # after every scan, so that a killed run can be resumed
            self._write_record()
        return path

    def redo(self, case: str) -> None:
        """Make the mask of a finished scan again."""
        del self.done[case]
        self.record = self.record.select_cases(self.done)

    def _redo_incomplete(self, work: MaskWork[Any]) -> None:
        """Make the masks again that lack a file which an option asks for, the probabilities for example."""
        for case in list(self.done):
            if missing := [name for name in work.wanted_files(case) if not (self.out / name).is_file()]:
                say(f"{case}: {missing[0]} is missing; the mask is made again")
                self.redo(case)

    def _write_record(self) -> None:
        begun = time.monotonic()
        self.record.write(self.out / PREDICTIONS_FILE)
        taken = time.monotonic() - begun
        self._due = begun + (WAIT * taken if taken > QUICK_S else 0)

    def _take_over(self, before: PredictionRecord) -> None:
        """Take over the masks of an interrupted run whose files exist and whose scans are unchanged."""
        recorded = {case: self.out / name for case, name in before.masks.items() if case in self.images}
        existing = {case: self.images[case] for case, mask in recorded.items() if mask.is_file()}
        scans = map_cases(sha256, existing, "comparing scans")[0] if existing else {}
        for case, mask in recorded.items():
            if case not in existing:
                say(f"{case}: its mask is missing and is made again")
            elif scans[case] != before.scans.get(case):
                say(f"{case}: the scan has changed; its mask is made again")
            else:
                self.done[case] = mask
        for case in self.done:
            self.record = self.record.with_case(case, before.select_case(case))


def _check_same_options(
    out: Path, before: PredictionRecord, now: PredictionRecord, same: Sequence[str], words: Words
) -> None:
    """Raise `RunError` where the masks in `out` were made with other options than the present ones."""
    old, new = before.to_json(), now.to_json()
    if differing := [line for key in same for line in _list_differences(key, old[key], new[key])]:
        more = f"; and {len(differing) - DIFFERENCES_SHOWN} more" if len(differing) > DIFFERENCES_SHOWN else ""
        raise RunError(
            f"{out} holds a {words.noun} with other options ({'; '.join(differing[:DIFFERENCES_SHOWN])}{more})",
            "resume with the same model and options, or choose another --out",
        )


def _list_differences(name: str, before: object, now: object) -> Iterator[str]:
    """Each value of a record that has changed, by its name; settings have the names of their options."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in before | now:
            yield from _list_differences(key if name == "settings" else f"{name}.{key}", before.get(key), now.get(key))
    elif before != now:
        yield f"{name}: {before} then, {now} now"


def find_images(folder: Path, rules: Sequence[str] = ()) -> dict[str, Path]:
    """Case id → scan; `rules` are those of `--series`; for errors see `imaging.find.find_dataset`."""
    return find_dataset(folder, None, rules)[0]


def select_cases(images: Mapping[str, Path], cases: Sequence[str], folder: Path) -> dict[str, Path]:
    """The images that `--case` names, in that order, or all.

    Raises:
        OptionError: an unknown case.
    """
    if unknown := [case for case in cases if case not in images]:
        raise OptionError(f"--case {unknown[0]}: no such scan is in {folder}", "correct the case id")
    return {case: images[case] for case in cases or images}
