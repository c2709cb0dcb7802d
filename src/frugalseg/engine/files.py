"""Files that are written atomically, and checks of output paths."""

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
"""Description of a trained model, written last: where it exists, the run is finished."""

MAX_NAME_LENGTH = 40
"""Characters of a file's name that are kept in the name of its temporary file, which must not be too long."""

_TEMPORARY = re.compile(r"\..*\.(?P<process>\d+)\.tmp(\..+)?")


def check_out(out: Path, name: str = "--out") -> None:
    """Check, before any work, that `out` is a folder or can be created.

    Raises:
        RunError: it is a file or inside one, is a broken link, or its name is not UTF-8.
        DiskError: the name is too long, or the folder around it cannot be written.
    """
    _check_path(out, name)
    if out.exists() and not out.is_dir():
        raise RunError(f"{name} {out} is a file", "give a folder")


def check_out_file(out: Path, name: str = "--out") -> None:
    """Check, before any work, that `out` is a file or can be created.

    Raises:
        RunError, DiskError: see `check_out`; or `out` is a folder.
    """
    _check_path(out, name)
    if out.is_dir():
        raise RunError(f"{name} {out} is a folder", "give a file")


def _check_path(out: Path, name: str) -> None:
    check_utf8(out, name)
    for path in (out, *out.parents):
        with disk_errors(out):
            try:
                path.lstat()  # the whole path first: this reports a name that is too long
            except (FileNotFoundError, NotADirectoryError):
                continue
        if not path.exists():
            raise RunError(f"{name} {path} is a broken link", "give another folder, or remove the link")
        if path != out and not path.is_dir():
            raise RunError(f"{name} {path} is a file", "give a folder")
        if path != out and not os.access(path, os.W_OK | os.X_OK):  # an existing folder may be finished and only read
            raise DiskError(f"{path} cannot be written (no permission)", f"choose another {name}")
        return


def check_utf8(path: Path, name: str) -> None:
    """Raise `OptionError` where a path cannot be written into a text file."""
    if to_printable(path) != str(path):
        raise OptionError(f"{name} {to_printable(path)} is not UTF-8", "rename it")


def temporary_name(path: Path, suffix: str = "") -> Path:
    """Path of the temporary file, in the same folder, that is renamed to `path` when complete."""
    name = path.name
    if len(name) > MAX_NAME_LENGTH:
        name = f"{name[:MAX_NAME_LENGTH]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    return path.with_name(f".{name}.{os.getpid()}.tmp{suffix}")


def remove_orphans(folder: Path, beginning: str = "") -> None:
    """Remove temporary files of killed processes of this program in `folder` and below.

    Call it only while holding the folder's lock; files of running processes are kept.

    Args:
        folder: the folder.
        beginning: only files whose names begin with this, for a lock on these files alone.
    """
    for path in [found for found in folder.rglob(f".{beginning}*.tmp*") if _is_orphan(found)]:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):  # a leftover does no harm
                path.unlink()


def is_temporary(path: Path) -> bool:
    """Whether a file or folder has a name that `temporary_name` gives."""
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
    return process != os.getpid()  # this process has not written yet: an earlier one had the same number


class _ErrorRecordingFile(io.FileIO):
    """A file that keeps the error of a failed write: some libraries replace or drop it."""

    failure: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return super().write(data) or 0
        except OSError as error:
            self.failure = error
            raise


@contextmanager
def atomic_write(path: Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a temporary file beside `path` for writing; on success it is fsynced and renamed to `path`.

    On any error the temporary file is removed and `path` is unchanged.

    Args:
        path: the file; its folder is created if missing.
        mode: "wb", or "w" for text in UTF-8.

    Raises:
        DiskError: the disk is full or the folder cannot be written, even if the writing library hides that error.
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
    """Raise the error of a failed write in place of what the writing library raised."""
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
    """Make a rename survive a power failure, where the system supports it (not on Windows)."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_joined(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...], parts: Iterable[Path]) -> None:
    """Write an .npy file by concatenating other files; with plain writes a full disk is an error, not a crash."""
    with atomic_write(path) as file:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for part in parts:
            with part.open("rb") as stream:
                shutil.copyfileobj(stream, file)


def to_json(content: Any) -> str:
    """JSON text as this program writes it."""
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON, atomically."""
    with atomic_write(path, "w") as file:
        file.write(to_json(content))


def read_json(path: Path) -> Any:
    """The content of a JSON file that is known to be complete; for others see `engine.schema`."""
    return json.loads(path.read_text(encoding="utf-8"))


def sha256(path: Path) -> str:
    """SHA-256 of a file; for a folder (a DICOM series, OME-Zarr), of its files' hashes in order of name."""
    digest = hashlib.sha256()
    if path.is_dir():
        entries = path.rglob("*") if path.suffix.lower() == ".zarr" else path.iterdir()
        for file in sorted(entry for entry in entries if entry.is_file()):
            if file.parent != path:  # where a chunk lies decides which voxels it holds
                digest.update(file.relative_to(path).as_posix().encode())
            digest.update(sha256(file).encode())
        return digest.hexdigest()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
