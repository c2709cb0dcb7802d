"""Random changes to a batch, on its device: kornia's, put together for scans."""

from __future__ import annotations

from typing import Any, Literal

import kornia.augmentation as K
from torch import Tensor, nn

from frugalseg.dataset.source import Slices

Strength = Literal["light", "robust"]


class Augment(nn.Module):
    """Rotation, scale and shift of image and labels together, and intensity, blur and noise of the image alone.

    No flips: organs have a side. Every slice draws its own changes from PyTorch's generator. What comes in from
    outside the picture is 0, that is air, and background.

    Args:
        strength: light for contrast, where the slice must stay what it is; robust for fine-tuning, where with few
            labelled scans strong changes of contrast and size stand in for other patients and contrast phases.
    """

    def __init__(self, strength: Strength) -> None:
        super().__init__()
        s = {"light": 0.3, "robust": 1.0}[strength]
        geometry = K.RandomAffine(
            degrees=30.0 * s, translate=(0.1 * s, 0.1 * s), scale=(1 - 0.3 * s, 1 + 0.4 * s), p=0.95
        )
        intensity: list[nn.Module] = [
            K.RandomContrast((1 - 0.4 * s, 1 + 0.5 * s), p=0.7),
            K.RandomBrightness((1 - 0.3 * s, 1 + 0.3 * s), p=0.7),
            K.RandomGamma((1 - 0.4 * s, 1 + 0.7 * s), p=0.5),
            K.RandomGaussianBlur((5, 5), (0.5, 1.0 + 0.5 * s), p=0.2),
            K.RandomGaussianNoise(std=0.06 * s, p=0.4),
        ]
        self.pipeline = K.AugmentationSequential(geometry, *intensity, data_keys=None)

    def forward(self, batch: Slices) -> Slices:
        """A changed copy of the batch; images stay in [0, 1]."""
        tensors: dict[str, Tensor] = {"image": batch.images}
        if batch.labels is not None:
            tensors["mask"] = batch.labels.unsqueeze(1).float()
        changed: dict[str, Any] = self.pipeline(tensors)
        labels = changed["mask"].squeeze(1).to(batch.labels.dtype) if batch.labels is not None else None
        return Slices(changed["image"].clamp(0, 1), labels)
