"""What is made of one scan by a command that writes masks, and how another machine sends it."""

from __future__ import annotations

import tempfile
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from frugalseg.engine.files import atomic_write, sha256
from frugalseg.engine.pool import CaseWork
from frugalseg.errors import disk_errors
from frugalseg.imaging.volume import Volume
from frugalseg.masks.output import MaskOutput, output_path
from frugalseg.records.predictions import CaseRecord

Source = TypeVar("Source")


@dataclass(frozen=True, eq=False)
class MadeMask:
    """The mask of a scan.

    Attributes:
        mask: on the scan's grid; or the content of its file, of a mask that was made on another machine.
        record: its entry in predictions.json.
        beside: name → content of files to write beside the mask; a name may begin with a folder.
        output: how the mask is written.
    """

    mask: Volume | bytes
    record: CaseRecord
    beside: Mapping[str, str | bytes] = field(default_factory=dict)
    output: MaskOutput = field(default_factory=MaskOutput)

    def write(self, path: Path, source: Path) -> None:
        """Write the mask of the scan at `source`, and the files beside it; raises `DiskError`, and as `MaskOutput`."""
        for name, content in self.beside.items():
            with disk_errors(path):
                (path.parent / name).parent.mkdir(exist_ok=True)
            with atomic_write(path.parent / name) as file:
                file.write(content.encode() if isinstance(content, str) else content)
        if isinstance(self.mask, Volume):
            self.output.write(self.mask, path, source)
            return
        with atomic_write(path) as file:
            file.write(self.mask)


class MaskWork(CaseWork[Path, Source, MadeMask]):
    """Work that makes the mask of a scan; its job is the scan's path."""

    @abstractmethod
    def make(self, case: str, source: Source) -> MadeMask:
        """The mask of one scan."""

    def wanted_files(self, case: str) -> Iterable[str]:
        """Names of files beside the mask that an option asks for: a resumed run makes masks again that lack one."""
        return ()

    def pack(self, case: str, job: Path, made: MadeMask) -> MadeMask:
        """The mask as the content of its file: a compressed mask is a hundredth of an array."""
        assert isinstance(made.mask, Volume)
        with tempfile.TemporaryDirectory() as folder:
            path = output_path(Path(folder), case, job, made.output.kind)
            made.output.write(made.mask, path, job)
            with disk_errors(path):
                return replace(made, mask=path.read_bytes(), record=replace(made.record, scan=sha256(job)))
