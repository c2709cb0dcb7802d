"""A folder of masks and the note on how they were made: filled scan by scan, gone on with after an interruption.

Used by every command that writes masks of whole scans.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar

from filelock import BaseFileLock

from frugalseg.engine.files import check_out, sha256
from frugalseg.engine.lock import in_use, lock_folder
from frugalseg.engine.parallel import list_failures, map_cases, overlap_cases
from frugalseg.engine.progress import say
from frugalseg.errors import OptionError, RunError, ScanError, disk_errors
from frugalseg.imaging.volume import Volume
from frugalseg.imaging.write import mask_path, write_mask
from frugalseg.options import Resume
from frugalseg.records.predictions import PREDICTIONS_FILE, CaseRecord, PredictionRecord
from frugalseg.text import pluralize

Source = TypeVar("Source")

SHOWN = 3
"""Number of differences shown: another model differs in a dozen values."""

Make = Callable[[str, Path], tuple[Volume, CaseRecord]]
"""Case id and scan → its mask, and what is recorded of it."""


@dataclass(frozen=True)
class Words:
    """What the work is called: a prediction, segmenting, segmented, predict."""

    noun: str
    doing: str
    done: str
    command: str


class FolderOptions(Protocol):
    """The options of a command that fills a folder of masks."""

    @property
    def out(self) -> Path:
        """The folder."""

    @property
    def overwrite(self) -> bool:
        """Whether it may hold something."""

    @property
    def resume(self) -> Resume:
        """Whether to go on with what it holds."""


class MaskFolder:
    """The folder of a command's masks. Make it with `claim`; other processes are kept out of it until `fill` ends.

    Attributes:
        out: the folder.
        images: case id → scan.
        record: how the masks are made; of what is told scan by scan, what is known by now.
        done: case id → mask, of an interrupted run that is gone on with.
    """

    def __init__(
        self, out: Path, images: Mapping[str, Path], record: PredictionRecord, words: Words, lock: BaseFileLock
    ) -> None:
        self.out, self.images, self.record, self.words, self._lock = out, dict(images), record, words, lock
        self.done: dict[str, Path] = {}

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
        """Take the folder for new masks, or find those of an interrupted run.

        Args:
            options: where, and whether it may be in use.
            images: case id → scan.
            record: what is known before the first scan.
            same: what must be the same in the record of a run that is gone on with.
            words: for messages.
            beside: files and folders in it that do not count as use.

        Raises:
            RunError: the folder is a file, in use, or worked in by another process; it holds nothing to go on with,
                or masks made otherwise; or a mask would overwrite its scan.
            DiskError: the folder cannot be made.
        """
        out = options.out
        check_out(out)
        scans = {path.resolve() for path in images.values()}
        if over := [case for case, path in images.items() if mask_path(out, case, path).resolve() in scans]:
            raise RunError(f"the mask of {over[0]} would overwrite the scan itself", "choose another --out")
        before = None if options.resume == "no" else PredictionRecord.beside(out)
        if before is not None:
            _check_same(out, before, record, same, words)
        elif options.resume == "yes":
            raise RunError(f"--resume: {out} holds no {words.noun} to resume", "leave out --resume")
        elif not options.overwrite and in_use(out, *beside):
            raise RunError(f"{out} is in use", "choose another --out, or give --overwrite")
        folder = cls(out, images, record, words, lock_folder(out))
        if before is not None:
            folder._go_on(before)
        else:
            with disk_errors(out):
                # An older record would speak for these masks until the new one is there.
                (out / PREDICTIONS_FILE).unlink(missing_ok=True)
        return folder

    def path(self, case: str) -> Path:
        """Where the mask of a case goes."""
        return mask_path(self.out, case, self.images[case])

    def fill(self, make: Make, device: str) -> dict[str, Path]:
        """Make the masks that are missing; returns case id → mask. Each is written while the next one is made.

        Args:
            make: the work on one scan.
            device: where it is done, in words.

        Raises:
            ScanError: some scans failed, after all others are written.
        """
        return self.fill_reading_ahead(lambda _, path: path, make, device)

    def fill_reading_ahead(
        self,
        read: Callable[[str, Path], Source],
        make: Callable[[str, Source], tuple[Volume, CaseRecord]],
        device: str,
    ) -> dict[str, Path]:
        """The same where reading is known by itself: the next scan is read while the mask of this one is made.

        Args:
            read: case id and scan → what `make` takes.
            make: the other work on one scan.
            device: where it is done, in words.

        Raises:
            ScanError: some scans failed, after all others are written.
        """
        try:
            return self._fill(read, make, device)
        finally:
            self._lock.release()

    def _fill(
        self,
        read: Callable[[str, Path], Source],
        make: Callable[[str, Source], tuple[Volume, CaseRecord]],
        device: str,
    ) -> dict[str, Path]:
        total = len(self.images)
        if self.done:
            say(f"{self.words.done} before: {len(self.done)} of {pluralize(total, 'scan')}")
        say(f"{self.words.doing} {pluralize(total - len(self.done), 'scan')} on {device}")

        def write(case: str, made: tuple[Volume, CaseRecord]) -> Path:
            mask, told = made
            write_mask(mask, self.path(case))
            told = replace(told, mask=self.path(case).name, scan=sha256(self.images[case]))
            self.record = self.record.with_case(case, told)
            self._write()  # after every scan, so that a killed run can go on
            return self.path(case)

        self._write()  # what a run that is killed in its first scan goes on with
        missing = [case for case in self.images if case not in self.done]
        # Masks are made of one scan at a time: the networks use every core.
        made, failures = overlap_cases(
            lambda case: read(case, self.images[case]), make, write, missing, self.words.doing
        )
        # Those that failed before the masks came to this command are in the record already.
        failed = {**self.record.failed, **{case: error.problem for case, error in failures.items()}}
        self.record = replace(self.record, failed=failed)
        self._write()
        if failures:
            others = f", the others are in {self.out}" if len(failures) < total else ""
            not_done = f"{len(failures)} of {pluralize(total, 'scan')} not {self.words.done}{others}"
            raise ScanError(
                f"{not_done}:\n{list_failures(failures)}",
                f"repair or remove them, and {self.words.command} by the same command with --resume: "
                "it does those that are missing",
            )
        return {case: (self.done | made)[case] for case in self.images}

    def forget(self, case: str) -> None:
        """Do a scan again whose mask is there."""
        del self.done[case]
        self.record = self.record.only(self.done)

    def _write(self) -> None:
        self.record.write(self.out / PREDICTIONS_FILE)

    def _go_on(self, before: PredictionRecord) -> None:
        """Take over what an interrupted run noted of the masks that are there, of scans that are still the same."""
        noted = {case: self.out / name for case, name in before.masks.items() if case in self.images}
        there = {case: self.images[case] for case, mask in noted.items() if mask.is_file()}
        scans = map_cases(sha256, there, "comparing scans")[0] if there else {}
        for case, mask in noted.items():
            if case not in there:
                say(f"{case}: its mask is gone; it is done again")
            elif scans[case] != before.scans.get(case):
                say(f"{case}: the scan is not the one noted before; it is done again")
            else:
                self.done[case] = mask
        for case in self.done:
            self.record = self.record.with_case(case, before.of_case(case))


def _check_same(out: Path, before: PredictionRecord, now: PredictionRecord, same: Sequence[str], words: Words) -> None:
    """Raise `RunError` where the masks in `out` are made otherwise than is asked for now."""
    then, wanted = before.to_json(), now.to_json()
    if differing := [told for key in same for told in _differing(key, then[key], wanted[key])]:
        more = f"; and {len(differing) - SHOWN} more" if len(differing) > SHOWN else ""
        raise RunError(
            f"{out} holds a {words.noun} with other options ({'; '.join(differing[:SHOWN])}{more})",
            "resume with the same model and options, or choose another --out",
        )


def _differing(name: str, before: object, now: object) -> Iterator[str]:
    """Each value of a record that is another now, by its name; those of the settings are called like the options."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in before | now:
            yield from _differing(key if name == "settings" else f"{name}.{key}", before.get(key), now.get(key))
    elif before != now:
        yield f"{name}: {before} then, {now} now"


def chosen(images: Mapping[str, Path], cases: Sequence[str], folder: Path) -> dict[str, Path]:
    """The images of `--case`, in that order, or all.

    Raises:
        OptionError: a case that is none of them.
    """
    if unknown := [case for case in cases if case not in images]:
        raise OptionError(f"--case {unknown[0]}: no such scan is in {folder}", "correct the case id")
    return {case: images[case] for case in cases or images}
