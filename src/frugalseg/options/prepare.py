"""Options of `prepare` and `superpixels`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from frugalseg.errors import OptionError
from frugalseg.options.common import Modality, check_intensity, positive


@dataclass(frozen=True, kw_only=True)
class PrepareOptions:
    """Turn a folder of scans into a slice store, which every training command reads."""

    images: Path
    """Folder of scans: NIfTI, NRRD, MHA, FreeSurfer, DICOM series (however deep), or an nnU-Net raw dataset (with
    imagesTr/)."""
    out: Path
    """The store to write. Re-running after an interruption skips the scans already done."""
    labels: Path | None = None
    """Folder of masks with the same case ids as the images; an nnU-Net raw dataset brings its own (labelsTr).
    Scans without a mask count as unlabelled."""
    target: list[str] = field(default_factory=list)
    """What is segmented: name=value, or name=value,value to merge several label values. Repeat for several organs."""
    size: int = 256
    """Side of the square slices, in pixels."""
    modality: Modality = "auto"
    """How intensities become [0, 1]: ct by a window in HU, mr by percentiles of each scan. auto: what --window or
    --percentiles imply, or DICOM's Modality, or nnU-Net's dataset.json, or whether the values look like HU."""
    window: tuple[float, float] | None = None
    """CT only: lower and upper HU, shown as 0 and 1; by default −160 240."""
    percentiles: tuple[float, float] | None = None
    """MR only: percentiles of the scan shown as 0 and 1; by default 0.5 99.5."""
    split: Path | None = None
    """A JSON file {"train": [patients], "validation": [...], "test": [...]}. Without it, one is drawn."""
    fractions: tuple[float, float] = (0.15, 0.25)
    """Shares of the labelled patients drawn for validation and for test, where no split is given; of three or more,
    each share above 0 is at least one."""
    patient_pattern: str = "(.+)"
    """Regular expression on the case id whose first group is the patient, where a patient has several scans."""
    skip_broken: bool = False
    """Leave out scans that cannot be read instead of stopping with the list of them."""
    workers: int | None = None
    """Scans read at the same time; by default one a thread. 0 works in the main thread alone."""
    threads: int | None = None
    """CPU threads, shared by these scans; by default OMP_NUM_THREADS, or one a core that may be used."""
    seed: int = 0
    """Seed of the split."""
    superpixels: bool = False
    """Also compute SLIC superpixels, which --method supercl learns from; a store that is there gets them added."""
    segments: int | None = None
    """Superpixels: about how many a slice; by default 25 at 256 pixels, and in proportion to the area."""
    compactness: float = 10.0
    """Superpixels: weight of nearness against likeness, in units of lightness (0 to 100)."""

    def __post_init__(self) -> None:
        positive(self, "size", "segments", "compactness")
        check_segments(self.segments)
        if self.size < 32:
            raise OptionError(f"--size {self.size}: slices under 32 pixels hold no anatomy", "give 128 or 256")
        check_intensity(self)
        if min(self.fractions) < 0 or sum(self.fractions) >= 1:
            raise OptionError(
                f"--fractions {self.fractions[0]:g} {self.fractions[1]:g} leave no patient for training",
                "give two shares that sum to less than 1, for example 0.15 0.25",
            )
        if self.labels is not None and not self.target:
            raise OptionError(
                "--labels was given without --target", "name what is segmented, for example --target liver=6"
            )


def check_segments(segments: int | None) -> None:
    """Raise `OptionError` where a slice could have no two superpixels, or more than 16 bits can number."""
    if segments is not None and not 2 <= segments <= 10_000:
        raise OptionError(f"--segments {segments} is not in 2…10000", "give 25 for slices of 256 pixels, say")


@dataclass(frozen=True, kw_only=True)
class SuperpixelOptions:
    """Add SLIC superpixels to a slice store, for pre-training by supercl; nothing else of it is touched."""

    data: Path
    """A slice store made by `frugalseg prepare`."""
    segments: int | None = None
    """About how many superpixels a slice has; by default 25 at 256 pixels, and in proportion to the area."""
    compactness: float = 10.0
    """Weight of nearness against likeness, in units of lightness (0 to 100)."""
    workers: int | None = None
    """Scans worked on at the same time; by default one a thread. 0 works in the main thread alone."""
    threads: int | None = None
    """CPU threads, shared by these scans; by default OMP_NUM_THREADS, or one a core that may be used."""

    def __post_init__(self) -> None:
        positive(self, "compactness")
        check_segments(self.segments)
