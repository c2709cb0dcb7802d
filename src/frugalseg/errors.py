"""What a user can do wrong.

Every error says what was given and what was expected (`problem`) and what to do about it (`cure`).
The command line prints both and exits with 1; anything that is not a `FrugalsegError` is a defect of ours
and keeps its traceback.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class FrugalsegError(Exception):
    """Base of all errors a user can mend.

    Args:
        problem: what was given, and what was expected instead, naming the file or the option.
        cure: what to do now.
    """

    exit_code = 1

    def __init__(self, problem: str, cure: str) -> None:
        super().__init__(problem, cure)
        self.problem = problem
        self.cure = cure

    def __str__(self) -> str:
        return f"{self.problem}\n  → {self.cure}"


class OptionError(FrugalsegError):
    """An option's value, or two options together, make no sense."""


class ScanError(FrugalsegError):
    """A scan or mask file cannot be read, or does not hold one 3D volume."""


class PairingError(FrugalsegError):
    """Images and labels, or predictions and references, do not belong together."""


class StoreError(FrugalsegError):
    """A slice store is missing, unfinished, or made with other parameters."""


class SplitError(FrugalsegError):
    """A split or a label budget asks for what the data cannot give, or lets patients leak."""


class RunError(FrugalsegError):
    """A run folder is in use, or holds nothing to resume or to load."""


class InterruptedRunError(FrugalsegError):
    """The person stopped a run; its checkpoint was written."""

    exit_code = 130


class DeviceError(FrugalsegError):
    """The device asked for is not there, or too small."""


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
"""What the system says of a failed write → problem and cure."""


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn what the system says while `path` is written (no space, no permission, no such folder) into a `DiskError`.

    An error of another file, which was read meanwhile, stays as it is; one of space is always the written file's.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK or not (error.errno in _FULL or _concerns(error, path)):
            raise
        problem, cure = _DISK[error.errno]
        raise DiskError(f"{problem.format(path=to_printable(path))} ({error.strerror})", cure) from error


def _concerns(error: OSError, path: Path) -> bool:
    """Whether the system names no file, or `path`, one around it or one in it."""
    if error.filename is None:
        return True
    named = Path(os.fsdecode(error.filename))
    return named == path or path.is_relative_to(named) or named.is_relative_to(path.parent)


_GONE = {errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.EISDIR}


def vanished_file_error(error: OSError) -> ScanError | None:
    """What to say of a file that was there a moment ago and cannot be read now; None where the error is of no file."""
    if error.filename is None or error.errno not in _GONE:
        return None
    return ScanError(
        f"{to_printable(error.filename)} cannot be read any more ({error.strerror})",
        "see that nothing moves or deletes files while a command runs, then run it again",
    )


def to_printable(path: object) -> str:
    """A path as a message can show it: bytes that are no UTF-8 become \\x…."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
