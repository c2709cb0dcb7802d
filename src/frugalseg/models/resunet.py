"""U-Nets with a ResNet encoder: PolyCL's ResU-Net, and those that take ImageNet weights (arXiv 2505.19208).

PolyCL's ResU-Net has a stem of 32 channels, which no published weights fit: 14.287 M parameters. Its "PT ResU-Net"
(with ImageNet weights) was not released; `resnet18-unet` follows its description.

Args of every backbone here:
    norm: of the encoder. With "batch", the decoder has the published instance norm without learned scale; with
        "instance_affine", it has that too.
    dropout: of the decoder; a ResNet has none.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor

from frugalseg.models.backbone import Backbone
from frugalseg.models.blocks import Decoder, Encoder, upsample
from frugalseg.models.imagenet import load_imagenet
from frugalseg.models.resnet import ResNetEncoder, ResNetShape
from frugalseg.models.unet import DROPOUT, UNetDecoder
from frugalseg.options import Norm

POLYCL_RESNET18 = ResNetShape(name="PolyCL's ResNet-18", depths=(2, 2, 2, 2), stem=32)
RESNET18 = ResNetShape(name="resnet18", depths=(2, 2, 2, 2))
RESNET34 = ResNetShape(name="resnet34", depths=(3, 4, 6, 3))
RESNET50 = ResNetShape(name="resnet50", depths=(3, 4, 6, 3), bottleneck=True)
RESNET50_CAFFE = ResNetShape(name="resnet50", depths=(3, 4, 6, 3), bottleneck=True, stride_on="1x1")


class ResUNetDecoder(UNetDecoder):
    """The U-Net's decoder up to the stem's half resolution, followed by one more upsampling."""

    def forward(self, features: list[Tensor]) -> Tensor:
        """Feature maps, fine to coarse → logits (B, C, H, W) at the image's resolution.

        PolyCL upsamples before the 1×1 convolution. Both orders give the same result, as the weights of bilinear
        upsampling sum to 1, but this one upsamples classes instead of 32 channels.
        """
        return upsample(super().forward(features))


def _make_encoder(shape: ResNetShape, norm: Norm, dropout: float, inputs: int) -> Encoder:
    return ResNetEncoder(shape, norm, inputs)


def _make_decoder(shape: ResNetShape, encoder: Encoder, classes: int, norm: Norm, dropout: float) -> Decoder:
    # As wide as for a ResNet-18 for all encoders: a decoder as wide as ResNet-50's maps would be larger than the
    # encoder.
    widths = (shape.stem, 64, 128, 256)
    return ResUNetDecoder(encoder.channels, classes, "instance" if norm == "batch" else norm, dropout, widths)


def _make_backbone(shape: ResNetShape, source: str, *, imagenet: bool) -> Backbone:
    return Backbone(
        encoder=partial(_make_encoder, shape),
        decoder=partial(_make_decoder, shape),
        norms=("batch", "instance_affine"),
        own_norm="batch",
        dropout=DROPOUT,
        source=source,
        load_published=partial(load_imagenet, shape) if imagenet else None,
    )


RESUNET = _make_backbone(POLYCL_RESNET18, "PolyCL (arXiv 2505.19208)", imagenet=False)
RESNET18_UNET = _make_backbone(RESNET18, "ResNet (arXiv 1512.03385), PolyCL's decoder", imagenet=True)
RESNET34_UNET = _make_backbone(RESNET34, "ResNet (arXiv 1512.03385), PolyCL's decoder", imagenet=True)
RESNET50_UNET = _make_backbone(RESNET50, "ResNet v1.5 (torchvision), PolyCL's decoder", imagenet=True)
RESNET50_CAFFE_UNET = _make_backbone(RESNET50_CAFFE, "ResNet (arXiv 1512.03385), PolyCL's decoder", imagenet=True)
