"""What a user can do wrong.

Every error says what was given and what was expected (`problem`) and what to do about it (`cure`).
The command line prints both and exits with 1; anything that is not a `FrugalsegError` is a defect of ours
and keeps its traceback.
"""

from __future__ import annotations

import errno
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


_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn "no space left", "quota exceeded" and "permission denied" while writing `path` into a `DiskError`."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise DiskError(
                f"no space left while writing {path} ({error.strerror})",
                "free some space or choose another --out, then run the same command again",
            ) from error
        if error.errno in {errno.EACCES, errno.EROFS, errno.EPERM}:
            raise DiskError(f"{path} cannot be written ({error.strerror})", "choose another --out") from error
        raise
