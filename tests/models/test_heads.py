from __future__ import annotations

import torch
from torch import nn

from frugalseg.models.heads import byol_head, linear_head, mlp_head
from frugalseg.models.registry import build_projection


def test_heads_are_the_published_layers():
    kinds = [type(layer) for layer in byol_head(512, 4096, 256)]
    assert kinds == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]
    assert [type(layer) for layer in mlp_head(64, 32, 16)] == [nn.Linear, nn.ReLU, nn.Linear]
    assert isinstance(linear_head(64), nn.Linear)


def test_heads_give_the_length_asked_for():
    x = torch.rand(4, 24)
    assert linear_head(24, 7)(x).shape == (4, 7)
    assert mlp_head(24, 48, 7)(x).shape == (4, 7)
    assert byol_head(24, 48, 7)(x).shape == (4, 7)


def test_the_last_layer_keeps_both_signs():
    torch.manual_seed(0)
    x = torch.randn(64, 24)
    for head in (linear_head(24, 8), mlp_head(24, 48, 8), byol_head(24, 48, 8)):
        assert head(x).min() < 0 < head(x).max()


def test_projections_have_the_head_asked_for():
    assert isinstance(build_projection("unet", "instance").head, nn.Linear)
    widths = [
        m.out_features for m in build_projection("supercl-unet", "batch", head="mlp").head if hasattr(m, "weight")
    ]
    assert widths == [512, 512]
