"""Options of `refine` and `propagate`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from frugalseg.errors import OptionError
from frugalseg.options.common import Modality, Pieces, Precision, Resume, check_intensity, numbers, positive


@dataclass(frozen=True, kw_only=True)
class PromptableOptions:
    """What the commands share that prompt a model on whole scans."""

    images: Path
    """A scan, a DICOM folder, or a folder of scans."""
    out: Path
    """Folder for the masks, each in its scan's own grid and file type."""
    model: str = "litemedsam"
    """The promptable model: litemedsam, another name of `frugalseg weights list`, a folder or a file."""
    modality: Modality = "auto"
    """How intensities become grey values: ct by a window in HU, mr by percentiles of each scan. auto: what --window or
    --percentiles imply, or DICOM's Modality, or nnU-Net's dataset.json, or whether the values look like HU."""
    window: tuple[float, float] | None = None
    """CT only: lower and upper HU, shown as black and white; by default −160 240."""
    percentiles: tuple[float, float] | None = None
    """MR only: percentiles of the scan shown as black and white; by default 0.5 99.5."""
    margin: float = 3.0
    """Distance in mm between a mask and the box around it."""
    candidates: Literal["one", "several"] = "one"
    """Masks that the model offers for a box: one, or several of which the highest-scored is taken (SAM for
    photographs; models tuned on medical boxes were not taught to score several)."""
    cache: Path | None = None
    """Folder in which the slices' embeddings are kept, 2 MB each with litemedsam: the next command with these scans,
    model and window is then many times faster. Delete it when done."""
    target: list[str] = field(default_factory=list)
    """Only these organs of the masks: name=value, or name=value,value to merge several. By default every label value
    is an organ of its own."""
    case: list[str] = field(default_factory=list)
    """Only these scans, by case id."""
    device: str = "auto"
    """auto, cpu, cuda, or cuda:N."""
    threads: int | None = None
    """CPU threads; by default OMP_NUM_THREADS, or one a physical core that may be used. The same number gives the same
    figures."""
    precision: Precision = "auto"
    """Arithmetic: auto takes bf16 where the device is fast at it, else 32."""
    overwrite: bool = False
    """Write into a folder that already holds masks."""
    resume: Resume = "no"
    """--resume goes on with an interrupted run; --resume auto starts it or goes on with it."""

    def __post_init__(self) -> None:
        positive(self)
        check_intensity(self)
        if not 0 <= self.margin < float("inf"):  # nor NaN
            raise OptionError(f"--margin {self.margin:g} is no distance from 0 on", "give one in mm")


@dataclass(frozen=True, kw_only=True)
class RefineOptions(PromptableOptions):
    """Refine masks of whole scans: a promptable model outlines anew what lies in each box around them."""

    masks: Path
    """Folder of masks with the same case ids as the images, from `frugalseg predict` or from anywhere."""
    boxes: Pieces = "component"
    """What gets a box: slice, all of an organ in a slice; component, each part that hangs together in a slice; body,
    each part that hangs together in 3D, where a slice cuts it."""
    min_iou: float = 0.5
    """Where the new mask overlaps the given one less than this (IoU), the given one is kept."""
    smallest: float = 30.0
    """Parts of less than this area, in mm², get no box and stay as they are."""
    consistent: bool = False
    """Average the model's masks over neighbouring slices, by their distance in mm, before they are cut."""
    oracle: Path | None = None
    """Folder of reference masks whose boxes prompt the model instead of the given masks: tells what better boxes would
    bring, is no result of the method, and is recorded as "oracle"."""
    batch_size: int | None = None
    """Slices encoded at once; by default 4 on a CPU and 16 on a GPU, and halved where the memory is too small."""

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "batch_size")
        if not 0 <= self.min_iou <= 1:
            raise OptionError(f"--min-iou {self.min_iou:g} is not in 0…1", "give 0.5, say")
        if not self.smallest >= 0:  # nor NaN
            raise OptionError(f"--smallest {self.smallest:g} is no area from 0 on", "give one in mm²")


@dataclass(frozen=True, kw_only=True)
class PropagateOptions(PromptableOptions):
    """Carry one annotated slice, or several, through the whole volume."""

    annotations: Path
    """Masks with the same case ids as the images, in which one or a few slices are annotated, each completely."""
    slices: str = ""
    """The annotated slices, counted from 0 at the inferior end: 12, or 12,40. By default all that hold foreground."""
    range: str = ""
    """First and last slice to work on: 10,80. By default all."""
    engine: Literal["project", "sam2"] = "project"
    """project: any promptable model, slice to slice. sam2: the memory of SAM 2 or EdgeTAM, named by --model; it
    takes no --margin, --candidates, --cache or --min-overlap."""
    min_overlap: float = 0.5
    """project: where a slice's mask would outgrow the one expected from the slice before so far that the two overlap
    less than this (IoU), the expected one is taken."""
    review_below: float = 0.7
    """Slices with a lower confidence are listed for review."""

    def __post_init__(self) -> None:
        super().__post_init__()
        numbers("slices", self.slices)
        if self.range and len(numbers("range", self.range)) != 2:
            raise OptionError(f"--range {self.range}: expected two slices", "give the first and the last, 10,80 say")
        for name in ("min_overlap", "review_below"):
            if not 0 <= getattr(self, name) <= 1:
                value = getattr(self, name)
                raise OptionError(f"--{name.replace('_', '-')} {value:g} is not in 0…1", "give 0.5, say")
        if self.engine == "sam2":
            for name in ("margin", "candidates", "cache", "min_overlap"):
                # All of them have plain defaults, which dataclasses leave on the class.
                if (value := getattr(self, name)) != getattr(type(self), name):
                    flag = "--" + name.replace("_", "-")
                    raise OptionError(
                        f"{flag} {value}: --engine sam2 knows nothing of it",
                        f"leave {flag} out, or take --engine project",
                    )
