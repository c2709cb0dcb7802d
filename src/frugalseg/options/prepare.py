"""Options of `prepare` and `prepare superpixels`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from frugalseg.errors import OptionError
from frugalseg.options.common import Modality, check_intensity, check_positive
from frugalseg.options.series import SeriesOptions


@dataclass(frozen=True, kw_only=True)
class PrepareOptions(SeriesOptions):
    """Convert a folder of scans to a slice store, which every training command reads."""

    images: Path
    """Folder of scans: NIfTI, NRRD, MHA, FreeSurfer, DICOM series (at any depth), or an nnU-Net raw dataset (with
    imagesTr/)."""
    out: Path
    """The store to write. After an interruption, the same command skips the scans already done."""
    labels: Path | None = None
    """Folder of masks with the same case ids as the images; by default the labelsTr of an nnU-Net raw dataset.
    Scans without a mask count as unlabelled. Of masks by `frugalseg annotate`, only slices that a person outlined or
    reviewed are labels."""
    target: list[str] = field(default_factory=list)
    """What to segment: name=value, or name=value,value to merge several label values. Repeat for several organs."""
    size: int = 256
    """Width and height of the square slices, in pixels."""
    modality: Modality = "auto"
    """How intensities are scaled to [0, 1]: ct, by a window in HU; mr, by percentiles of each scan. auto: as --window
    or --percentiles imply, otherwise by DICOM's Modality, nnU-Net's dataset.json, or whether the values look like
    HU."""
    window: tuple[float, float] | None = None
    """CT only: lower and upper HU, scaled to 0 and 1; by default −160 240."""
    percentiles: tuple[float, float] | None = None
    """MR only: percentiles of the scan, scaled to 0 and 1; by default 0.5 99.5."""
    split: Path | None = None
    """JSON file {"train": [patients], "validation": [...], "test": [...]}; by default patients are split at random."""
    fractions: tuple[float, float] = (0.15, 0.25)
    """Fractions of the labelled patients held out for validation and for test, if no split is given; of three patients
    or more, each fraction above 0 is at least one patient."""
    patient_pattern: str = "(.+)"
    """Regular expression whose first group in the case id is the patient, if patients have several scans."""
    skip_broken: bool = False
    """Skip scans that cannot be read, instead of stopping with a list of them."""
    workers: int | None = None
    """Number of scans read in parallel; by default one per thread. 0: all work in the main thread."""
    threads: int | None = None
    """Number of CPU threads, shared by these scans; by default OMP_NUM_THREADS, otherwise one per available core."""
    ray: str | None = None
    """Prepare the scans as Ray tasks of one thread each, --workers at a time on the whole cluster: local, auto (the
    cluster running here), or the address of a cluster. Its machines see scans and masks at the same paths; --out need
    not be shared, since this machine writes the store."""
    seed: int = 0
    """Random seed of the split."""
    superpixels: bool = False
    """Also compute SLIC superpixels, which `pretrain --method supercl` needs; an existing store gets them added."""
    segments: int | None = None
    """Superpixels: approximate number per slice; by default 25 at 256 pixels, in proportion to the area."""
    compactness: float = 10.0
    """Superpixels: weight of spatial against intensity distance, in units of lightness (0 to 100)."""

    def __post_init__(self) -> None:
        check_positive(self, "size", "segments", "compactness")
        check_segments(self.segments)
        if self.size < 32:
            raise OptionError(f"--size {self.size}: slices under 32 pixels hold no anatomy", "give 128 or 256")
        check_intensity(self)
        if min(self.fractions) < 0 or sum(self.fractions) >= 1:
            raise OptionError(
                f"--fractions {self.fractions[0]:g} {self.fractions[1]:g} leave no patient for training",
                "give two fractions that sum to less than 1, for example 0.15 0.25",
            )
        if self.labels is not None and not self.target:
            raise OptionError(
                "--labels was given without --target", "name what to segment, for example --target liver=6"
            )


def check_segments(segments: int | None) -> None:
    """Raise `OptionError` unless there are at least two superpixels, and few enough for 16 bits."""
    if segments is not None and not 2 <= segments <= 10_000:
        raise OptionError(f"--segments {segments} is not in 2…10000", "give for example 25 for slices of 256 pixels")


@dataclass(frozen=True, kw_only=True)
class SuperpixelOptions:
    """Add SLIC superpixels to a slice store, for pre-training by supercl; the rest of the store is left unchanged."""

    data: Path
    """A slice store made by `frugalseg prepare`."""
    segments: int | None = None
    """Approximate number of superpixels per slice; by default 25 at 256 pixels, in proportion to the area."""
    compactness: float = 10.0
    """Weight of spatial against intensity distance, in units of lightness (0 to 100)."""
    workers: int | None = None
    """Number of scans processed in parallel; by default one per thread. 0: all work in the main thread."""
    threads: int | None = None
    """Number of CPU threads, shared by these scans; by default OMP_NUM_THREADS, otherwise one per available core."""

    def __post_init__(self) -> None:
        check_positive(self, "compactness")
        check_segments(self.segments)
