"""The scans of a session: found once, opened when they are looked at, a few at a time."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

from frugalseg.annotation.display import Display
from frugalseg.dataset.stamp import stamp_scan
from frugalseg.errors import FrugalsegError, ScanError, vanished_file_error
from frugalseg.imaging.mapped import cached_files, map_volume

OPEN_SCANS = 4
"""Scans that are open at a time; their voxels are mapped from files, so this bounds file handles, not memory."""


class UnknownCaseError(FrugalsegError):
    """A request for a case or a slice that does not exist."""


class Scans:
    """Case id → scan, and the folder in which scans are unpacked.

    Args:
        root: the folder of scans, or the one scan.
        paths: case id → file or DICOM folder.
        cache: the folder.
        most_bytes: largest size of the folder; the scans that were not used for longest are removed from it.
    """

    def __init__(self, root: Path, paths: Mapping[str, Path], cache: Path, most_bytes: int) -> None:
        self.root, self.paths, self.cache, self.most_bytes = root, dict(paths), cache, most_bytes
        self._open: OrderedDict[str, Display] = OrderedDict()
        self._lock = threading.Lock()
        self._opening = {case: threading.Lock() for case in paths}

    def path(self, case: str) -> Path:
        """The scan of a case; raises `UnknownCaseError`, or `ScanError` for a link that leaves the folder of scans."""
        if case not in self.paths:
            raise UnknownCaseError("there is no such scan", "reload the page")
        path = self.paths[case]
        if not path.resolve().is_relative_to(self.root.resolve()):
            raise ScanError(
                f"{path.name} is a link to a file outside the folder of scans",
                "give the folder that holds the file itself as --images",
            )
        return path

    def open(self, case: str) -> Display:
        """The display of a case; its scan is unpacked at the first time.

        Raises:
            UnknownCaseError: there is no such case.
            ScanError: the scan cannot be read.
            DiskError: there is no space to unpack it.
        """
        path = self.path(case)
        with self._opening[case]:
            with self._lock:
                if case in self._open:
                    self._open.move_to_end(case)
                    return self._open[case]
            display = self._read(path)
            with self._lock:
                self._open[case] = display
                while len(self._open) > OPEN_SCANS:
                    self._open.popitem(last=False)
        self._shrink()
        return display

    def kept(self, path: Path) -> Path:
        """The path at which `map_volume` keeps the unpacked scan `path` in its present state."""
        stamp = stamp_scan(path, None)[0]
        return self.cache / hashlib.sha256(repr(stamp).encode()).hexdigest()[:20]

    def _read(self, path: Path) -> Display:
        try:
            kept = self.kept(path)
            display = Display.of(map_volume(path, kept), path)
        except OSError as error:
            if (vanished := vanished_file_error(error)) is None:
                raise
            raise vanished from error
        except MemoryError as error:
            raise ScanError(f"{path} is too large for the memory", "convert it to .nii or .nii.gz") from error
        if (description := cached_files(kept)[1]).is_file():
            description.touch()  # the time of last use, by which scans are removed
        return display

    def _shrink(self) -> None:
        """Remove the scans that were not used for longest until the folder is small enough."""
        with self._lock:
            found = sorted(self.cache.glob("*.npz"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
            total = 0
            for number, description in enumerate(found):
                voxels = description.with_suffix(".npy")
                total += voxels.stat().st_size if voxels.is_file() else 0
                if total > self.most_bytes and number >= OPEN_SCANS:
                    for path in (description, voxels):
                        path.unlink(missing_ok=True)
