"""How a method is trained unless options say otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from frugalseg.engine.optimization import Optimization

AugmentName = Literal["none", "light", "strong", "published"]


@dataclass(frozen=True, kw_only=True)
class TrainingRecipe(Optimization):
    """A method's defaults; `warm_restarts` restarts every --restart-epochs epochs.

    Attributes:
        tau: temperature; unused by methods without a contrastive loss.
        augment: random augmentation of the slices, see `pretraining.views`.
    """

    tau: float
    augment: AugmentName
