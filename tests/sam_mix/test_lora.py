from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import nn
from transformers import SamVisionConfig
from transformers.models.sam.modeling_sam import SamVisionEncoder

from frugalseg.promptable.tinyvit import TinyViT, WindowAttention
from frugalseg.sam_mix.lora import SplitLinear, add_lora, is_lora
from tests.promptable.tiny_networks import sam


def tiny_vit():
    torch.manual_seed(1)
    return TinyViT(widths=(8, 16, 20, 24), depths=(1, 1, 2, 1), heads=(2, 5, 3), windows=(4, 4, 2), outputs=16).eval()


def vit():
    return sam().vision_encoder


def first(output):
    return output if isinstance(output, torch.Tensor) else output[0]


@pytest.mark.parametrize(("heads", "bias"), [(1, True), (4, True), (1, False)])
def test_three_layers_are_the_fused_one(heads, bias):
    fused = nn.Linear(16, 48, bias=bias)
    x = torch.randn(2, 5, 16)
    assert torch.allclose(SplitLinear(fused, heads)(x), fused(x), atol=1e-6)


@pytest.mark.parametrize("make", [tiny_vit, vit])
def test_lora_changes_nothing_at_first_and_then_only_queries_and_values(make):
    encoder, pictures = make(), torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        before = first(encoder(pictures))
        blocks = add_lora(encoder, rank=4)
        after = first(encoder(pictures))
        assert torch.allclose(before, after, atol=1e-5)
        for name, parameter in encoder.named_parameters():
            if ".lora_B" in name:
                parameter.fill_(0.1)
        assert not torch.allclose(first(encoder(pictures)), before, atol=1e-3)
    names = [name for name, parameter in encoder.named_parameters() if parameter.requires_grad]
    assert len(names) == 4 * blocks
    assert all(is_lora(name) and (".queries." in name or ".values." in name) for name in names)


def test_tinyvits_queries_and_values_get_the_lora_of_separate_linear_layers():
    torch.manual_seed(0)
    attention = WindowAttention(12, 3, 2)
    fused = attention.qkv
    holder = nn.Sequential(attention)
    add_lora(holder, rank=2)
    apart = nn.ModuleDict({name: nn.Linear(12, 12) for name in ("q", "v")})
    rows = fused.weight.detach().reshape(3, 3, 4, 12), fused.bias.detach().reshape(3, 3, 4)
    for name, i in (("q", 0), ("v", 2)):
        apart[name].weight.data = rows[0][:, i].reshape(12, 12).clone()
        apart[name].bias.data = rows[1][:, i].reshape(12).clone()
    inject_adapter_in_model(LoraConfig(r=2, lora_alpha=2, target_modules=["q", "v"]), apart)
    split = attention.qkv
    for mine, theirs in ((split.queries, apart["q"]), (split.values, apart["v"])):
        for part in ("lora_A", "lora_B"):
            weight = torch.randn_like(getattr(mine, part)["default"].weight)
            getattr(mine, part)["default"].weight.data = weight
            getattr(theirs, part)["default"].weight.data = weight
    x = torch.randn(5, 12)
    found = split(x).reshape(5, 3, 3, 4)
    assert torch.allclose(found[:, :, 0].reshape(5, 12), apart["q"](x), atol=1e-6)
    assert torch.allclose(found[:, :, 2].reshape(5, 12), apart["v"](x), atol=1e-6)
    assert torch.allclose(found[:, :, 1], fused(x).reshape(5, 3, 3, 4)[:, :, 1], atol=1e-6)


def test_number_of_parameters_of_vit_b():
    with torch.device("meta"):
        encoder = SamVisionEncoder(SamVisionConfig())
        blocks = add_lora(encoder, rank=8)
    trained = [p.numel() for p in encoder.parameters() if p.requires_grad]
    assert blocks == 12
    assert sum(trained) == 12 * 8 * 2 * 768 * 2 == 294_912


def test_number_of_parameters_of_litemedsam():
    with torch.device("meta"):
        encoder = TinyViT()
        add_lora(encoder, rank=8)
    widths = [128] * 2 + [160] * 6 + [320] * 2
    assert sum(p.numel() for p in encoder.parameters() if p.requires_grad) == sum(8 * 4 * width for width in widths)
