"""SuperCL's U-Net (arXiv 2504.14737, and its code: network/unet2d.py).

Its encoder has 4.714 M parameters. Two differences to the publication: the classifier has a bias, because the
background has no logit here that could replace it; and the He initialisation of the published fine-tuning network is
also used for pre-training.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frugalseg.models.backbone import Backbone
from frugalseg.models.blocks import Decoder, Encoder, make_norm
from frugalseg.options import Norm

WIDTHS = (32, 64, 128, 256, 512)
SLOPE = 0.01


class SuperCLEncoder(Encoder):
    """Four levels of two 3×3 convolutions with normalisation and leaky ReLU, with max pooling between them.

    The fifth level, the centre, has two 3×3 convolutions with ReLU and no normalisation, as published.
    """

    def __init__(self, norm: Norm, inputs: int = 1, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        self.channels = widths
        self.stride = 2 ** (len(widths) - 1)
        self.embedding_dim = widths[-1]
        self.levels = nn.ModuleList(_make_double_conv(a, b, norm) for a, b in pairwise((inputs, *widths[:-1])))
        self.centre = nn.Sequential(
            nn.Conv2d(widths[-2], widths[-1], 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(widths[-1], widths[-1], 3, padding=1),
            nn.ReLU(),
        )
        self.apply(_initialise)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, inputs, H, W) → maps of 32, 64, 128, 256, 512 channels at full to 1/16 resolution."""
        features: list[Tensor] = []
        for level in self.levels:
            x = level(x)
            features.append(x)
            x = F.max_pool2d(x, 2)
        return [*features, self.centre(x)]

    def embed(self, features: list[Tensor]) -> Tensor:
        """Mean of the centre's map, (B, 512). The map itself is SuperCL's pixel feature."""
        return features[-1].mean(dim=(2, 3))


class SuperCLDecoder(Decoder):
    """2×2 transposed convolution, concatenation with the encoder's map, two convolutions as in the encoder."""

    def __init__(self, channels: Sequence[int], classes: int, norm: Norm) -> None:
        super().__init__()
        steps = list(pairwise(list(channels)[::-1]))
        self.up = nn.ModuleList(nn.ConvTranspose2d(coarse, fine, 2, stride=2) for coarse, fine in steps)
        self.levels = nn.ModuleList(_make_double_conv(2 * fine, fine, norm) for _, fine in steps)
        self.classify = nn.Conv2d(channels[0], classes, 1)
        self.apply(_initialise)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Feature maps, fine to coarse → logits (B, C, H, W) at the resolution of the finest."""
        x = features[-1]
        for up, level, skip in zip(self.up, self.levels, features[-2::-1], strict=True):
            x = level(torch.cat([up(x), skip], dim=1))
        logits: Tensor = self.classify(x)
        return logits


def _make_double_conv(inputs: int, outputs: int, norm: Norm) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [nn.Conv2d(channels, outputs, 3, padding=1), make_norm(norm, outputs), nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*layers)


def _initialise(module: nn.Module) -> None:
    """He initialisation for the leaky ReLU."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.kaiming_normal_(module.weight, a=SLOPE)
        assert module.bias is not None
        nn.init.zeros_(module.bias)


def _make_encoder(norm: Norm, dropout: float, inputs: int) -> Encoder:
    return SuperCLEncoder(norm, inputs)


def _make_decoder(encoder: Encoder, classes: int, norm: Norm, dropout: float) -> Decoder:
    return SuperCLDecoder(encoder.channels, classes, norm)


SUPERCL_UNET = Backbone(
    encoder=_make_encoder,
    decoder=_make_decoder,
    norms=("batch", "instance_affine"),
    own_norm="batch",
    dropout=0.0,
    source="SuperCL (arXiv 2504.14737)",
)
