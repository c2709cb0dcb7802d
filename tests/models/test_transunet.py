from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from frugalseg.models.resnet_v2 import ResNetV2, Root, StandardisedConv, standardise
from frugalseg.models.transunet import SMALL, TransUNetEncoder
from frugalseg.models.vit import Transformer, TransformerBlock, resample_positions


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_a_block_is_pytorch_s_own():
    """nn.TransformerEncoderLayer with pre-normalisation computes the same with other names."""
    ours = TransformerBlock(48, 3, 96, dropout=0.0)
    theirs = nn.TransformerEncoderLayer(
        48, 3, 96, dropout=0.0, activation="gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
    )
    names = {
        "self_attn.in_proj_weight": ours.attention.qkv.weight,
        "self_attn.in_proj_bias": ours.attention.qkv.bias,
        "self_attn.out_proj.weight": ours.attention.out.weight,
        "self_attn.out_proj.bias": ours.attention.out.bias,
        "linear1.weight": ours.fc1.weight,
        "linear1.bias": ours.fc1.bias,
        "linear2.weight": ours.fc2.weight,
        "linear2.bias": ours.fc2.bias,
        "norm1.weight": ours.norm1.weight,
        "norm1.bias": ours.norm1.bias,
        "norm2.weight": ours.norm2.weight,
        "norm2.bias": ours.norm2.bias,
    }
    for parameter in names.values():
        nn.init.normal_(parameter, std=0.3)
    theirs.load_state_dict(names)
    x = torch.randn(2, 10, 48)
    assert torch.allclose(ours(x), theirs(x), atol=1e-5)


def test_attention_is_the_formula():
    attention = TransformerBlock(12, 3, 8, 0.0).attention
    x = torch.randn(1, 5, 12)
    weight, bias = attention.qkv.weight, attention.qkv.bias
    q, k, v = (F.linear(x[0], weight[i * 12 : i * 12 + 12], bias[i * 12 : i * 12 + 12]) for i in range(3))
    heads = []
    for h in range(3):
        part = slice(4 * h, 4 * h + 4)
        heads.append(torch.softmax(q[:, part] @ k[:, part].T / 2, dim=1) @ v[:, part])
    assert torch.allclose(attention(x)[0], attention.out(torch.cat(heads, dim=1)), atol=1e-6)


def test_standardised_kernels_have_mean_0_and_variance_1():
    kernel = standardise(torch.randn(8, 4, 3, 3) * 3 + 1)
    assert kernel.mean(dim=(1, 2, 3)).abs().max() < 1e-6
    assert (kernel.var(dim=(1, 2, 3), unbiased=False) - 1).abs().max() < 1e-4


@pytest.mark.parametrize("slices", [1, 3])
def test_the_root_is_the_convolution_of_the_repeated_image(slices):
    root = Root(slices, 8)
    x = torch.rand(2, slices, 20, 24)
    repeated = StandardisedConv(3 * slices, 8, 7, stride=2)
    repeated.load_state_dict(root.state_dict())
    assert torch.allclose(root(x), repeated(x.repeat_interleave(3, dim=1)) / slices, atol=1e-5)


def test_equal_slices_give_what_one_gives():
    one, three = Root(1, 8), Root(3, 8)
    three.weight.data = one.weight.data.repeat(1, 3, 1, 1)
    x = torch.rand(1, 1, 32, 32)
    assert torch.allclose(one(x), three(x.repeat(1, 3, 1, 1)), atol=1e-5)


def test_the_range_of_grey_values_does_not_matter_inside():
    """Google's weights were trained on [−1, 1]; scans are in [0, 1]."""
    trunk = ResNetV2(1, 32, (1, 1, 1))
    x = torch.rand(1, 1, 64, 64)
    narrow, wide = trunk.conv_root(x), trunk.conv_root(2 * x - 1)
    assert torch.allclose(2 * narrow[..., 2:-2, 2:-2], wide[..., 2:-2, 2:-2], atol=1e-4)
    assert torch.allclose(trunk.gn_root(narrow), trunk.gn_root(2 * narrow), atol=1e-4)


def test_the_trunk_s_maps_halve_and_the_unpadded_one_gets_zeros():
    maps = ResNetV2(1, 32, (1, 2, 1))(torch.rand(1, 1, 96, 64))
    assert [tuple(m.shape[1:]) for m in maps] == [(32, 48, 32), (128, 24, 16), (256, 12, 8), (512, 6, 4)]
    assert not maps[1][..., -1, :].any()
    assert not maps[1][..., -1].any()
    assert maps[1][..., -2, -2].any()


@pytest.mark.parametrize("size", [(256, 256), (32, 64), (272, 240)])
def test_any_multiple_of_16(size):
    encoder = TransUNetEncoder(SMALL).eval()
    with torch.no_grad():
        features = encoder(torch.rand(1, 1, *size))
    assert features[-1].shape == (1, 192, size[0] // 16, size[1] // 16)
    assert torch.allclose(encoder.embed(features), features[-1].flatten(2).mean(dim=2), atol=1e-6)


def test_positions_are_resampled_along_their_own_axes():
    rows, columns = torch.meshgrid(torch.linspace(0, 1, 4), torch.linspace(0, 1, 4), indexing="ij")
    table = torch.stack([rows, columns], dim=2).reshape(1, 16, 2)
    assert resample_positions(table, (4, 4)) is table
    found = resample_positions(table, (3, 5)).reshape(3, 5, 2)
    assert torch.allclose(found[..., 0], torch.linspace(0, 1, 3)[:, None].expand(3, 5), atol=1e-6)
    assert torch.allclose(found[..., 1], torch.linspace(0, 1, 5)[None].expand(3, 5), atol=1e-6)


def test_tokens_keep_their_places():
    transformer = Transformer(8, 12, 3, 16, depth=0, dropout=0.0, grid=4)
    transformer.norm = nn.Identity()
    x = torch.rand(1, 8, 4, 4)
    assert torch.allclose(transformer(x), transformer.embedding(x), atol=1e-6)


def test_positions_tell_tokens_apart():
    transformer = Transformer(8, 12, 3, 16, depth=1, dropout=0.0, grid=4).eval()
    x = torch.ones(1, 8, 4, 4)
    assert transformer(x).std(dim=(2, 3)).max() < 1e-5
    nn.init.normal_(transformer.positions)
    assert transformer(x).std(dim=(2, 3)).max() > 0.1
