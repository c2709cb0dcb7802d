from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from frugalseg.models.resnet import Bottleneck, ResNetEncoder, ResNetShape
from frugalseg.models.resunet import RESNET18, RESNET50, RESNET50_CAFFE, ResUNetDecoder

TORCHVISION_NAMES = {
    "conv1.weight": (64, 3, 7, 7),
    "bn1.running_var": (64,),
    "layer1.0.conv1.weight": (64, 64, 3, 3),
    "layer1.1.bn2.bias": (64,),
    "layer2.0.conv1.weight": (128, 64, 3, 3),
    "layer2.0.downsample.0.weight": (128, 64, 1, 1),
    "layer2.0.downsample.1.num_batches_tracked": (),
    "layer4.1.conv2.weight": (512, 512, 3, 3),
}


def shapes(shape, inputs=3):
    with torch.device("meta"):
        return {n: tuple(t.shape) for n, t in ResNetEncoder(shape, "batch", inputs).state_dict().items()}


def test_names_and_shapes_are_torchvision_s():
    found = shapes(RESNET18)
    assert TORCHVISION_NAMES.items() <= found.items()
    assert len(found) == 120  # torchvision's 122 without fc
    found = shapes(RESNET50)
    assert found["layer1.0.downsample.0.weight"] == (256, 64, 1, 1)
    assert found["layer4.2.conv3.weight"] == (2048, 512, 1, 1)
    assert len(found) == 318


def test_both_resnet50_have_one_state_dict_and_are_two_networks():
    assert shapes(RESNET50) == shapes(RESNET50_CAFFE)
    torch.manual_seed(0)
    blocks = [Bottleneck(64, 32, 2, "batch", place).eval() for place in ("1x1", "3x3")]
    blocks[1].load_state_dict(blocks[0].state_dict())
    x = torch.rand(1, 64, 16, 16)
    first, second = (block(x) for block in blocks)
    assert first.shape == second.shape == (1, 128, 8, 8)
    assert not torch.allclose(first, second, atol=1e-3)


def test_a_stride_on_the_1x1_drops_pixels_before_anything_else():
    block = Bottleneck(8, 4, 2, "batch", "1x1").eval()
    x = torch.rand(1, 8, 8, 8)
    other = x.clone()
    other[..., 1::2, 1::2] = 9.0
    assert torch.equal(block(x), block(other))


def test_a_basic_block_is_the_formula():
    torch.manual_seed(0)
    encoder = ResNetEncoder(ResNetShape(name="tiny", depths=(1, 1, 1, 1)), "batch").eval()
    block = encoder.layer2[0]
    x = torch.rand(1, 64, 8, 8)
    inner = F.relu(F.conv2d(x, block.conv1.weight, stride=2, padding=1) / (1 + 1e-5) ** 0.5)
    inner = F.conv2d(inner, block.conv2.weight, padding=1) / (1 + 1e-5) ** 0.5
    shortcut = F.conv2d(x, block.downsample[0].weight, stride=2) / (1 + 1e-5) ** 0.5
    assert torch.allclose(block(x), F.relu(inner + shortcut), atol=1e-5)


def test_classifying_before_the_last_upsampling_changes_nothing():
    torch.manual_seed(0)
    decoder = ResUNetDecoder((8, 8, 16), 3, "instance", 0.0)
    features = [torch.rand(2, c, s, s) for c, s in ((8, 16), (8, 8), (16, 4))]
    last = {}
    decoder.levels[-1].register_forward_hook(lambda module, inputs, output: last.update(x=output))
    logits = decoder(features)
    upsampled = F.interpolate(last["x"], scale_factor=2, mode="bilinear", align_corners=True)
    assert torch.allclose(logits, decoder.classify(upsampled), atol=1e-5)


def test_first_weights_are_he_s():
    torch.manual_seed(0)
    encoder = ResNetEncoder(RESNET18, "batch")
    for conv in (m for m in encoder.modules() if isinstance(m, nn.Conv2d) and m.weight.numel() > 10_000):
        expected = (2 / (conv.out_channels * conv.kernel_size[0] ** 2)) ** 0.5
        assert abs(conv.weight.std().item() / expected - 1) < 0.05
