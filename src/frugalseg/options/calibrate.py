"""Options of `calibrate`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from frugalseg.errors import OptionError
from frugalseg.options.common import Precision, check_positive
from frugalseg.text import join_words

OF_MODEL, OF_PROPAGATION = ("model", "data", "refine"), ("propagated", "references", "target")
"""Options of the two kinds of masks; the first two of each are required."""


@dataclass(frozen=True, kw_only=True)
class CalibrateOptions:
    """Learn how far masks may be trusted, from labelled scans that their model was not trained on.

    Either give --model and --data, or --propagated and --references.
    """

    model: Path | None = None
    """Run of `frugalseg finetune`. Its model.json gets the new calibration, the weights do not change."""
    data: Path | None = None
    """Slice store, prepared like that of the training. Its labelled scans that chose the model (validation patients)
    or that the model does not know are used; training and test patients of the model are not."""
    refine: str | None = None
    """Also calibrate masks that this promptable model refines, as `predict --refine` does."""
    propagated: Path | None = None
    """Folder of `frugalseg propagate`, which gets a calibration.json for `propagate --calibration`. Outline as many
    slices of a scan as you will do later."""
    references: Path | None = None
    """Complete masks of the propagated scans, or of some of them, with the same case ids."""
    target: list[str] = field(default_factory=list)
    """Organs of --references, if their values differ from those of the propagated masks, e.g. liver=6."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N, or mps (a Mac's GPU; auto does not choose it)."""
    threads: int | None = None
    """Number of CPU threads; by default OMP_NUM_THREADS, otherwise one per available physical core."""
    precision: Precision = "auto"
    """Floating-point precision; auto: bf16 where the device is fast at it, otherwise 32."""

    def __post_init__(self) -> None:
        check_positive(self)
        given = [name for name in (*OF_MODEL, *OF_PROPAGATION) if getattr(self, name)]
        for needed, others in ((OF_MODEL[:2], OF_PROPAGATION), (OF_PROPAGATION[:2], OF_MODEL)):
            if set(needed) <= set(given) and not set(others) & set(given):
                return
        raise OptionError(
            f"{join_words([f'--{name}' for name in given] or ['nothing'])} given: it is not clear what to calibrate",
            "give --model and --data for the masks of a model, or --propagated and --references",
        )
