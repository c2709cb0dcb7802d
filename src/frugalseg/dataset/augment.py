"""Random changes to a batch, on its device: kornia's, put together for scans."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import kornia.augmentation as K
import torch
from torch import Tensor, nn

from frugalseg.dataset.deform import RandomDeformation
from frugalseg.dataset.source import Slices

Strength = Literal["light", "robust", "supercl"]


class Augment(nn.Module):
    """Rotation, scale and shift of image and labels together, and intensity, blur and noise of the image alone.

    No flips but for supercl: organs have a side. Every slice draws its own changes from PyTorch's generator. What comes
    in from outside the picture is 0, that is air, and background.

    Args:
        strength: light for contrast, where the slice must stay what it is; robust for fine-tuning, where with few
            labelled scans strong changes of contrast and size stand in for other patients and contrast phases; supercl
            as SuperCL's fine-tuning was published (arXiv 2504.14737): mirrored, bent, rotated all round, scaled, and no
            intensity changed.
    """

    def __init__(self, strength: Strength) -> None:
        super().__init__()
        geometry, intensity = _published() if strength == "supercl" else _ours({"light": 0.3, "robust": 1.0}[strength])
        self.geometry = K.AugmentationSequential(*geometry, data_keys=None)
        self.intensity = nn.Sequential(*intensity)

    def forward(self, batch: Slices) -> Slices:
        """A changed copy of the batch; images stay in [0, 1]."""
        return self.recolour(self.move(batch))

    def move(self, batch: Slices) -> Slices:
        """Images, labels and weights moved together."""
        # What comes in from outside is certainly background: doubt is what moves, so that it comes in as 0.
        doubt = None if batch.weights is None else 1 - batch.weights
        maps = [t for t in (batch.labels, doubt) if t is not None]
        tensors: dict[str, Tensor] = {"image": batch.images}
        if maps:
            tensors["mask"] = torch.stack([m.float() for m in maps], dim=1)
        moved: dict[str, Any] = self.geometry(tensors)
        of = iter(moved["mask"].unbind(dim=1)) if maps else iter(())
        labels = next(of).to(batch.labels.dtype) if batch.labels is not None else None
        return Slices(moved["image"], labels, 1 - next(of) if doubt is not None else None)

    def recolour(self, batch: Slices) -> Slices:
        """Intensities changed, everything in its place."""
        return replace(batch, images=self.intensity(batch.images).clamp(0, 1))


def _ours(s: float) -> tuple[list[nn.Module], list[nn.Module]]:
    """Changes of place and of intensity, `s` times as strong as those of robust."""
    geometry: list[nn.Module] = [
        K.RandomAffine(degrees=30.0 * s, translate=(0.1 * s, 0.1 * s), scale=(1 - 0.3 * s, 1 + 0.4 * s), p=0.95)
    ]
    intensity: list[nn.Module] = [
        K.RandomContrast((1 - 0.4 * s, 1 + 0.5 * s), p=0.7),
        K.RandomBrightness((1 - 0.3 * s, 1 + 0.3 * s), p=0.7),
        K.RandomGamma((1 - 0.4 * s, 1 + 0.7 * s), p=0.5),
        K.RandomGaussianBlur((5, 5), (0.5, 1.0 + 0.5 * s), p=0.2),
        K.RandomGaussianNoise(std=0.06 * s, p=0.4),
    ]
    return geometry, intensity


def _published() -> tuple[list[nn.Module], list[nn.Module]]:
    """SuperCL's changes of place; it has none of intensity in fine-tuning."""
    return [K.RandomHorizontalFlip(p=0.5), K.RandomVerticalFlip(p=0.5), RandomDeformation()], []
