"""A binary file reader whose buffers never exceed the size of the file."""

from __future__ import annotations

import io
from pathlib import Path


class BoundedReader(io.BufferedReader):
    """A file opened for reading; `read(n)` allocates at most the bytes that remain in the file.

    Python allocates all n bytes of a plain `read(n)` before reading, and a damaged DICOM element may claim 4 GB.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._size = path.stat().st_size

    def read(self, size: int | None = -1, /) -> bytes:
        """Read `size` bytes, or all that remain, as any file does."""
        if size is None or size < 0:
            return super().read()
        return super().read(min(size, max(0, self._size - self.tell())))
