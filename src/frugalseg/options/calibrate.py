"""Options of `calibrate`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from frugalseg.options.common import Precision, check_positive


@dataclass(frozen=True, kw_only=True)
class CalibrateOptions:
    """Learn how far a model's masks may be trusted, from labelled scans that it was not trained on."""

    model: Path
    """Run of `frugalseg finetune`. Its model.json gets the new calibration, the weights do not change."""
    data: Path
    """Slice store, prepared like that of the training. Its labelled scans that chose the model (validation patients)
    or that the model does not know are used; training and test patients of the model are not."""
    refine: str | None = None
    """Also calibrate masks that this promptable model refines, as `predict --refine` does."""
    device: str = "auto"
    """auto, cpu, cuda, or cuda:N."""
    threads: int | None = None
    """Number of CPU threads; by default OMP_NUM_THREADS, otherwise one per available physical core."""
    precision: Precision = "auto"
    """Floating-point precision; auto: bf16 where the device is fast at it, otherwise 32."""

    def __post_init__(self) -> None:
        check_positive(self)
