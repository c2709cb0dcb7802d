"""Errors that a user can correct.

Every error states what was given and what was expected (`problem`), and what to do about it (`cure`). The command line
prints both and exits with 1; any other exception is a bug of frugalseg and keeps its traceback.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class FrugalsegError(Exception):
    """Base of all errors that a user can correct.

    Args:
        problem: what was given, and what was expected instead, naming the file or the option.
        cure: what to do about it.
    """

    exit_code = 1

    def __init__(self, problem: str, cure: str) -> None:
        super().__init__(problem, cure)
        self.problem = problem
        self.cure = cure

    def __str__(self) -> str:
        return f"{self.problem}\n  → {self.cure}"


class OptionError(FrugalsegError):
    """The value of an option, or a combination of options, is invalid."""


class ScanError(FrugalsegError):
    """A scan or mask file cannot be read, or is not one 3D volume."""


class PairingError(FrugalsegError):
    """Images and labels, or predictions and references, do not belong together."""


class StoreError(FrugalsegError):
    """A slice store is missing, damaged, unfinished, or made with other parameters."""


class SplitError(FrugalsegError):
    """A split or a label budget does not fit the data, or has a patient in two parts."""


class RunError(FrugalsegError):
    """A run folder is in use or damaged, or there is nothing to resume or to load."""


class InterruptedRunError(FrugalsegError):
    """The user stopped a run; its checkpoint was written."""

    exit_code = 130


class DeviceError(FrugalsegError):
    """The requested device does not exist, or has too little memory."""


class DiskError(FrugalsegError):
    """The disk is full, or a folder cannot be written."""


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_REFUSED = (
    *(errno.EACCES, errno.EROFS, errno.EPERM),
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ELOOP),
)
_DISK = {
    **dict.fromkeys(
        _FULL,
        (
            "no space left while writing {path}",
            "free some space or choose another --out, then run the same command again",
        ),
    ),
    **dict.fromkeys(_REFUSED, ("{path} cannot be written", "choose another --out")),
    errno.ENAMETOOLONG: ("the name of {path} is too long for this disk", "give a shorter name"),
    **dict.fromkeys(
        (errno.EIO, errno.ESTALE, errno.ENXIO),
        ("the disk failed while writing {path}", "check the disk, or choose another --out"),
    ),
}
"""Error number of a failed write → problem and cure."""


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn the system's errors while `path` is written (no space, no permission, no such folder) into a `DiskError`.

    Errors of other files, which are read at the same time, pass unchanged, except for lack of space.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK or not (error.errno in _FULL or _concerns(error, path)):
            raise
        problem, cure = _DISK[error.errno]
        raise DiskError(f"{problem.format(path=to_printable(path))} ({error.strerror})", cure) from error


def _concerns(error: OSError, path: Path) -> bool:
    """Whether an error names no file, or `path`, a folder around it or a file in it."""
    if error.filename is None:
        return True
    named = Path(os.fsdecode(error.filename))
    return named == path or path.is_relative_to(named) or named.is_relative_to(path.parent)


_GONE = {errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.EISDIR}


def vanished_file_error(error: OSError) -> ScanError | None:
    """The error for a file that disappeared while a command runs; None where `error` does not mean that."""
    if error.filename is None or error.errno not in _GONE:
        return None
    return ScanError(
        f"{to_printable(error.filename)} cannot be read any more ({error.strerror})",
        "make sure that files are not moved or deleted while a command runs, then run it again",
    )


def to_printable(path: object) -> str:
    """A path as messages show it: bytes that are not UTF-8 become \\x…."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
