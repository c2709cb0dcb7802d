"""Files that are whole or not there."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from frugalseg.errors import DiskError, OptionError, RunError, disk_errors, to_printable

MODEL_FILE = "model.json"
"""The description of what a run has learned; where it is, the run is finished."""

MAX_NAME_LENGTH = 40
"""Characters of a file's name that its temporary neighbour keeps: with the rest no longer than a disk takes."""

_TEMPORARY = re.compile(r"\..*\.(?P<process>\d+)\.tmp(\..+)?")


def check_out(out: Path, name: str = "--out") -> None:
    """Find out, before any work, whether `out` is a folder or can become one.

    Raises:
        RunError: it is a file or lies below one, is a link that leads nowhere, or its name is no UTF-8.
        DiskError: the name is too long, or the folder it would lie in cannot be written.
    """
    _check_path(out, name)
    if out.exists() and not out.is_dir():
        raise RunError(f"{name} {out} is a file", "give a folder")


def check_out_file(out: Path, name: str = "--out") -> None:
    """The same for a file.

    Raises:
        RunError, DiskError: see `check_out`; or it is a folder.
    """
    _check_path(out, name)
    if out.is_dir():
        raise RunError(f"{name} {out} is a folder", "give a file")


def _check_path(out: Path, name: str) -> None:
    check_utf8(out, name)
    for path in (out, *out.parents):
        with disk_errors(out):
            try:
                path.lstat()  # of the whole path first: a name that is too long is reported here
            except (FileNotFoundError, NotADirectoryError):
                continue
        if not path.exists():
            raise RunError(f"{name} {path} is a link that leads nowhere", "give another folder, or remove the link")
        if path != out and not path.is_dir():
            raise RunError(f"{name} {path} is a file", "give a folder")
        if path != out and not os.access(path, os.W_OK | os.X_OK):  # what is there may be finished, and only be read
            raise DiskError(f"{path} cannot be written (no permission)", f"choose another {name}")
        return


def check_utf8(path: Path, name: str) -> None:
    """Raise `OptionError` where a path cannot stand in the files that tell of it."""
    if to_printable(path) != str(path):
        raise OptionError(f"{name} {to_printable(path)} is no UTF-8", "rename it")


def temporary_name(path: Path, suffix: str = "") -> Path:
    """The neighbour of `path` that takes its name when it is whole; `remove_orphans` recognises such names."""
    name = path.name
    if len(name) > MAX_NAME_LENGTH:
        name = f"{name[:MAX_NAME_LENGTH]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    return path.with_name(f".{name}.{os.getpid()}.tmp{suffix}")


def remove_orphans(folder: Path, beginning: str = "") -> None:
    """Remove what killed processes of this program left half-written in `folder` and below.

    Call it only while holding the folder's lock; files that a running process is writing stay.

    Args:
        folder: where to look.
        beginning: of the names of what is meant, where the lock is only of that.
    """
    for path in [found for found in folder.rglob(f".{beginning}*.tmp*") if _is_orphan(found)]:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):  # what cannot be removed does no harm
                path.unlink()


def is_temporary(path: Path) -> bool:
    """Whether a file or folder is called like those of `temporary_name`."""
    return _TEMPORARY.fullmatch(path.name) is not None


def _is_orphan(path: Path) -> bool:
    match = _TEMPORARY.fullmatch(path.name)
    return match is not None and not _is_running(int(match["process"]))


def _is_running(process: int) -> bool:
    if os.name != "posix":  # os.kill would end it there
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        return True
    return process != os.getpid()  # this process has not begun to write: it is a namesake's


class _ErrorRecordingFile(io.FileIO):
    """A file that remembers why a write failed: some libraries tell something else of it, or nothing."""

    failure: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return super().write(data) or 0
        except OSError as error:
            self.failure = error
            raise


@contextmanager
def atomic_write(path: Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a temporary neighbour of `path` for writing; on success it is fsynced and takes the name `path`.

    On any error the temporary file is removed and `path` stays as it was.

    Args:
        path: of the file; its folder is made where it is missing.
        mode: "wb", or "w" for text in UTF-8.

    Raises:
        DiskError: the disk is full or the folder cannot be written, whatever the writing library makes of that.
    """
    temporary = temporary_name(path)
    try:
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            raw = _ErrorRecordingFile(temporary, "w")
        with _report_write_failure(raw, path), _open_buffered(raw, mode) as file:
            yield file
            file.flush()
            with disk_errors(path):
                os.fsync(raw.fileno())
        with disk_errors(path):
            temporary.replace(path)
            _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _report_write_failure(raw: _ErrorRecordingFile, path: Path) -> Iterator[None]:
    """Where a write failed, raise that, whatever came of it."""
    try:
        yield
    except Exception:
        if raw.failure is None:
            raise
        with disk_errors(path):
            raise raw.failure from None


def _open_buffered(raw: io.FileIO, mode: str) -> IO[Any]:
    buffered = io.BufferedWriter(raw)
    return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding="utf-8")


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut, where the system can (not on Windows)."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_joined(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...], parts: Iterable[Path]) -> None:
    """Write an .npy file from the bytes of others, by plain writes: a full disk is then an error, not a crash."""
    with atomic_write(path) as file:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for part in parts:
            with part.open("rb") as stream:
                shutil.copyfileobj(stream, file)


def to_json(content: Any) -> str:
    """The text of the JSON files that this program writes."""
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON, atomically."""
    with atomic_write(path, "w") as file:
        file.write(to_json(content))


def read_json(path: Path) -> Any:
    """The content of a JSON file that is known to be whole; see `engine.schema` for those that may not be."""
    return json.loads(path.read_text(encoding="utf-8"))


def sha256(path: Path) -> str:
    """SHA-256 of a file; of a folder (a DICOM series), that of its files' hashes in order of name."""
    digest = hashlib.sha256()
    if path.is_dir():
        for file in sorted(p for p in path.iterdir() if p.is_file()):
            digest.update(sha256(file).encode())
        return digest.hexdigest()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
