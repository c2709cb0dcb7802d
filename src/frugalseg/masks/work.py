"""What is made of one scan by a command that writes masks, and how another machine sends it."""

from __future__ import annotations

import tempfile
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from frugalseg.engine.files import atomic_write, sha256
from frugalseg.engine.pool import CaseWork
from frugalseg.errors import disk_errors
from frugalseg.imaging.volume import Volume
from frugalseg.imaging.write import mask_path, write_mask
from frugalseg.records.predictions import CaseRecord

Source = TypeVar("Source")


@dataclass(frozen=True, eq=False)
class MadeMask:
    """The mask of a scan.

    Attributes:
        mask: on the scan's grid; or the content of its file, of a mask that was made on another machine.
        record: its entry in predictions.json.
        beside: name → text of files to write beside the mask.
    """

    mask: Volume | bytes
    record: CaseRecord
    beside: Mapping[str, str] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Write the mask, and the files beside it; raises `DiskError`, and `ScanError` as `write_mask`."""
        for name, text in self.beside.items():
            with atomic_write(path.with_name(name), "w") as file:
                file.write(text)
        if isinstance(self.mask, Volume):
            write_mask(self.mask, path)
            return
        with atomic_write(path) as file:
            file.write(self.mask)


class MaskWork(CaseWork[Path, Source, MadeMask]):
    """Work that makes the mask of a scan; its job is the scan's path."""

    @abstractmethod
    def make(self, case: str, source: Source) -> MadeMask:
        """The mask of one scan."""

    def pack(self, case: str, job: Path, made: MadeMask) -> MadeMask:
        """The mask as the content of its file: a compressed mask is a hundredth of an array."""
        assert isinstance(made.mask, Volume)
        with tempfile.TemporaryDirectory() as folder:
            path = mask_path(Path(folder), case, job)
            write_mask(made.mask, path)
            with disk_errors(path):
                return replace(made, mask=path.read_bytes(), record=replace(made.record, scan=sha256(job)))


@dataclass(frozen=True)
class FunctionMaskWork(MaskWork[Path]):
    """Work that is one function of case id and scan; what it needs is read by itself."""

    function: Callable[[str, Path], tuple[Volume, CaseRecord]]

    def read(self, case: str, job: Path) -> Path:
        """See `CaseWork.read`."""
        return job

    def make(self, case: str, source: Path) -> MadeMask:
        """See `MaskWork.make`."""
        return MadeMask(*self.function(case, source))
