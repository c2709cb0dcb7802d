"""The classification branch: which organs a slice shows, and class activation maps of where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frugalseg.models.blocks import use_channels_last
from frugalseg.models.resnet import ResNetEncoder, ResNetShape

RESNET38 = ResNetShape(name="resnet38", depths=(3, 3, 3, 3), bottleneck=True)
"""1 convolution + 12 blocks of 3 + 1 linear layer = 38 layers, a map of 8×8 at 256 pixels, as in the paper's figure."""

LAST_STRIDE = {16: 1, 32: 2}
"""Pixels of the input for each cell of the map → stride of the last stage."""


class Classifier(nn.Module):
    """ResNet-38 on one grey channel, with one logit for each organ from the mean of its last map.

    The paper gives the name and the 8×8 map; the architecture is ours.

    Args:
        organs: number of organs.
        size: side in pixels that slices are resized to.
        stride: pixels of these for each cell of the map, 16 or 32.
    """

    def __init__(self, organs: int, size: int = 256, stride: int = 16) -> None:
        super().__init__()
        self.size = size
        strides = (*RESNET38.strides[:3], LAST_STRIDE[stride])
        self.encoder = ResNetEncoder(replace(RESNET38, strides=strides), "batch")
        use_channels_last(self.encoder)
        self.head = nn.Linear(self.encoder.embedding_dim, organs)

    def maps(self, slices: Tensor) -> Tensor:
        """Slices (B, 1, S, S) in [0, 1] → the last map (B, C, size/stride, size/stride)."""
        if slices.shape[-1] != self.size:
            shrinks = self.size < slices.shape[-1]
            slices = F.interpolate(slices, (self.size, self.size), mode="bilinear", antialias=shrinks)
        last: Tensor = self.encoder(slices)[-1]
        return last

    def logits(self, maps: Tensor) -> Tensor:
        """The last map → one logit for each organ, (B, organs)."""
        found: Tensor = self.head(maps.mean(dim=(2, 3)))
        return found

    def forward(self, slices: Tensor) -> Tensor:
        """Slices (B, 1, S, S) in [0, 1] → one logit for each organ, (B, organs)."""
        return self.logits(self.maps(slices))

    def grad_cam(self, maps: Tensor) -> Tensor:
        """Grad-CAM of each organ (arXiv 1610.02391, eq. 1, 2) on the last map: (B, organs, h, w), 0 or above.

        Its weights are the mean gradients of the organ's logit. For a linear layer after a mean these are the layer's
        weights divided by the number of positions: no backward pass is needed, and all organs are computed together.
        A test compares it with captum's `LayerGradCam`.
        """
        places = maps.shape[2] * maps.shape[3]
        with torch.autocast(maps.device.type, enabled=False):  # float32, since the map is thresholded
            weights = self.head.weight.float() / places
            return torch.einsum("kc,bchw->bkhw", weights, maps.float()).relu()


def focal_loss(logits: Tensor, present: Tensor, alpha: Sequence[float], gamma: float) -> Tensor:
    """Mean over slices and organs of −α_t (1 − p_t)^γ log p_t (arXiv 1708.02002, eq. 5).

    Args:
        logits: (B, K).
        present: (B, K), 1 where the slice shows the organ.
        alpha: for each organ the weight of slices that show it; that of the others is 1 − α.
        gamma: 0 is weighted cross-entropy.
    """
    logits, present = logits.float(), present.float()
    weight = torch.tensor(alpha, device=logits.device)
    weight = weight * present + (1 - weight) * (1 - present)
    log_p = -F.binary_cross_entropy_with_logits(logits, present, reduction="none")
    return (-weight * (1 - log_p.exp()).pow(gamma) * log_p).mean()


def balanced_alpha(share: float) -> float:
    """Weight of the slices that show an organ, by their share: 0.5 for a quarter to three quarters, else 0.25.

    0.25 is the focal loss's default; 0.5 keeps p at 0.5 where a slice is as likely to show the organ as not.
    """
    return 0.5 if 0.25 <= share <= 0.75 else 0.25
