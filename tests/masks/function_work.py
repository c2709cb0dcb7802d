"""Work for tests of folders of masks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from frugalseg.imaging.volume import Volume
from frugalseg.masks.work import MadeMask, MaskWork
from frugalseg.records.predictions import CaseRecord


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
