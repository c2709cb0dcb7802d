"""Options of `annotate`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from frugalseg.errors import OptionError
from frugalseg.options.common import check_positive
from frugalseg.options.series import SeriesOptions


@dataclass(frozen=True, kw_only=True)
class AnnotateOptions(SeriesOptions):
    """Outline slices in a local web page, propagate them, train, and correct the masks of all scans."""

    images: Path | None = None
    """Folder of scans, or one scan; every format that `frugalseg prepare` reads."""
    out: Path | None = None
    """Folder for masks and annotations.json, which `prepare` and `propagate` read; by default <images>-annotations."""
    labels: Path | None = None
    """Folder of masks drawn by a person: every slice of them counts as outlined."""
    masks: Path | None = None
    """Folder of masks from elsewhere to correct, from `frugalseg predict` or another program."""
    references: Path | None = None
    """Folder of reference masks to compare with; only then does the page show Dice."""
    target: list[str] = field(default_factory=list)
    """What to outline: name=value. Repeat for several organs; more can be added in the page."""
    demo: bool = False
    """Open simulated phantoms of the abdomen, without scans of your own."""
    phantoms: int = 6
    """Number of phantoms to simulate."""
    annotator: str | None = None
    """Who outlines, for the log of strokes; by default the name of the user's account."""
    model: str = "litemedsam"
    """Promptable model for boxes and points: litemedsam, another name from `frugalseg weights list`, a folder or a
    file."""
    host: str = "127.0.0.1"
    """Address to listen on. Any other than this machine's own (127.0.0.1) needs a token and sends scans unencrypted."""
    port: int = 8765
    """Port to listen on; 0 takes a free one."""
    token: str | None = None
    """Secret that opens the page from other machines; by default a random one, printed at the start."""
    no_browser: bool = False
    """Do not open a browser; the address is printed."""
    read_only: bool = False
    """Only show scans and masks: nothing can be drawn, and no job be started."""
    cache_gb: float = 20.0
    """Largest size of the unpacked scans that are kept in <out>/work, in GB, and of the features for predictions."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N, or mps (a Mac's GPU; auto does not choose it)."""
    threads: int | None = None
    """Number of CPU threads of each job; by default OMP_NUM_THREADS, otherwise one per available physical core, or with
    Ray those of its largest machine."""
    ray: str | None = None
    """Run the jobs of the page as Ray tasks: local, auto (the cluster running here), or the address of a cluster, whose
    machines see the scans and --out at the same paths."""

    def __post_init__(self) -> None:
        check_positive(self, "phantoms", "cache_gb")
        if not 0 <= self.port <= 65535:
            raise OptionError(f"--port {self.port} is not in 0…65535", "give for example 8765")
        if self.demo == (self.images is not None):
            raise OptionError(
                "give --images, the folder of your scans, or --demo for phantoms" + " (not both)" * self.demo,
                "for example: frugalseg annotate --images scans",
            )
        if self.token is not None and len(self.token) < 16:
            raise OptionError("--token is shorter than 16 characters", "leave it out: a random one is printed")
