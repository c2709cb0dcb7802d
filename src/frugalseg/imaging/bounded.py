"""Files that never ask for more memory than they hold."""

from __future__ import annotations

import io
from pathlib import Path


class BoundedReader(io.BufferedReader):
    """A file opened for reading; a `read` of more bytes than are left takes memory for those that are left.

    Python sets the bytes of a plain `read(n)` aside before it looks, and a damaged DICOM element claims 4 GB.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._size = path.stat().st_size

    def read(self, size: int | None = -1, /) -> bytes:
        """As of any file."""
        if size is None or size < 0:
            return super().read()
        return super().read(min(size, max(0, self._size - self.tell())))
