"""Options of `suggest`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from frugalseg.errors import OptionError
from frugalseg.options.common import Precision, check_positive


@dataclass(frozen=True, kw_only=True)
class SuggestOptions:
    """Suggest which scans and slices to outline next, and say why."""

    data: Path
    """A slice store made by `frugalseg prepare`, with or without masks."""
    out: Path
    """Folder for suggestions.json and suggestions.png, pictures of the suggested slices."""
    budget: int = 5
    """Number of slices to suggest."""
    for_: Literal["model", "mask"] = "model"
    """model: slices of training patients from which a model learns most. mask: slices of one --scan from which its mask
    is best propagated."""
    model: Path | None = None
    """Run of `frugalseg finetune`: it says where the organ is and what Dice it expects there, and --rule unsure asks it
    for more."""
    scan: str | None = None
    """With --for mask: case id of the scan."""
    propagated: Path | None = None
    """With --for mask: folder written by `frugalseg propagate`, whose confidence the next slice is to raise most."""
    rule: Literal["auto", "spread", "alike", "unsure"] = "auto"
    """spread: one slice from each patient in turn, at even heights. alike: slices that look like many others. unsure:
    slices that look like many of which --model is unsure. auto: spread, since no other was shown to be better."""
    encoder: Path | None = None
    """Pre-training run whose embedding tells which slices look alike, instead of small copies of the slices."""
    partial: bool = False
    """Masks of training scans show single outlined slices: slices where they are empty are not outlined yet."""
    study: Path | None = None
    """Folder of a study of this data set: its curves forecast what the suggested slices bring."""
    split: Path | None = None
    """JSON file with the patients for training, validation and test, instead of the store's own split."""
    label_draw: int = 0
    """Number of the random order of the patients."""
    cache: Path | None = None
    """Folder for the features of slices, which later suggestions reuse; delete it when done."""
    overwrite: bool = False
    """Replace earlier suggestions in --out."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N, or mps (a Mac's GPU; auto does not choose it)."""
    threads: int | None = None
    """Number of CPU threads; by default OMP_NUM_THREADS, otherwise one per available physical core."""
    precision: Precision = "auto"
    """Floating-point precision; auto: bf16 where the device is fast at it, otherwise 32."""

    def __post_init__(self) -> None:
        check_positive(self, "budget")
        if self.label_draw < 0:
            raise OptionError(f"--label-draw {self.label_draw} is below 0", "give 0, 1, 2, …")
        if self.for_ == "mask" and self.scan is None:
            raise OptionError("--for mask needs --scan", "give the case id of the scan that is to be outlined")
        unused = ("scan", "propagated") if self.for_ == "model" else ("encoder", "study", "partial")
        for name in unused:
            if getattr(self, name):
                raise OptionError(f"--for {self.for_} does not use --{name}", f"leave out --{name}")
        if self.rule == "unsure" and self.model is None:
            raise OptionError("--rule unsure needs a model", "give --model, or another --rule")
