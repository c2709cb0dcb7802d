"""The folder of annotations: masks and annotations.json for every command, and the server's own files in `work`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from frugalseg.records.annotations import ANNOTATIONS_FILE, WORK_FOLDER


@dataclass(frozen=True)
class Place:
    """Paths in the folder of annotations.

    Attributes:
        out: the folder; a valid --labels and --annotations folder at any moment.
    """

    out: Path

    @property
    def record(self) -> Path:
        """annotations.json."""
        return self.out / ANNOTATIONS_FILE

    @property
    def work(self) -> Path:
        """What only the server and its jobs read."""
        return self.out / WORK_FOLDER

    @property
    def state(self) -> Path:
        """The SQLite file with every stroke."""
        return self.work / "state.sqlite"

    @property
    def scans(self) -> Path:
        """Unpacked scans."""
        return self.work / "scans"

    @property
    def embeddings(self) -> Path:
        """Embeddings of slices, shared with `propagate` and `refine`."""
        return self.work / "embeddings"

    @property
    def features(self) -> Path:
        """Features of slices by a frozen encoder, for trainings."""
        return self.work / "features"

    @property
    def jobs(self) -> Path:
        """One folder per job, with its log."""
        return self.work / "jobs"

    @property
    def exports(self) -> Path:
        """Exports for other programs."""
        return self.out.with_name(f"{self.out.name}-export")

    def mask(self, case: str) -> Path:
        """The mask of a case, in its scan's grid."""
        return self.out / f"{case}.nii.gz"
