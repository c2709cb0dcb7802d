from __future__ import annotations

import pytest
import torch
from torch import nn

from frugalseg.errors import OptionError
from frugalseg.models.registry import build_projection, build_segmenter


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_parameter_counts_of_the_paper():
    segmenter = build_segmenter("unet", classes=1, norm="instance")
    assert count(segmenter.encoder) == 1_178_480
    assert count(segmenter.decoder) == 783_857
    assert count(build_projection("unet", "instance").head) == 65_792


def test_affine_norms_add_two_parameters_a_channel():
    plain = build_segmenter("unet", 1, "instance")
    channels = sum(m.num_features for m in plain.modules() if isinstance(m, nn.InstanceNorm2d))
    for norm in ("instance_affine", "batch"):
        assert count(build_segmenter("unet", 1, norm)) - count(plain) == 2 * channels


@pytest.mark.parametrize("size", [(64, 64), (101, 122), (7, 300), (16, 16), (1, 1), (128, 33)])
def test_any_size_comes_back(size):
    model = build_segmenter("unet", 3, "instance_affine")
    assert model(torch.rand(2, 1, *size)).shape == (2, 3, *size)
    assert build_projection("unet", "instance")(torch.rand(2, 1, *size)).shape == (2, 256)


def test_output_stays_with_its_pixel():
    """Padding and cropping must not shift: a spot changes the output around itself."""
    torch.manual_seed(0)
    model = build_segmenter("unet", 1, "batch").eval()
    image = torch.zeros(1, 1, 101, 75)
    spot = image.clone()
    spot[..., 70, 20] = 50.0
    with torch.no_grad():
        change = (model(spot) - model(image)).abs()[0, 0]
    row, column = divmod(int(change.argmax()), 75)
    assert abs(row - 70) <= 3
    assert abs(column - 20) <= 3


def test_logits_are_not_squashed():
    model = build_segmenter("unet", 1, "instance")
    nn.init.constant_(model.decoder.classify.bias, 9.0)
    assert model(torch.rand(1, 1, 32, 32)).mean() > 5


def test_embedding_is_the_mean_of_the_pooled_coarsest_map():
    projection = build_projection("unet", "instance")
    features = [torch.zeros(1), torch.arange(16.0).reshape(1, 1, 4, 4)]
    assert projection.encoder.embed(features).tolist() == [[(5 + 7 + 13 + 15) / 4]]


def test_first_logit_and_dropout_are_as_asked():
    model = build_segmenter("unet", 2, "instance", dropout=0.0)
    assert {m.p for m in model.modules() if isinstance(m, nn.Dropout)} == {0.0}
    assert {m.p for m in build_segmenter("unet", 2, "instance").modules() if isinstance(m, nn.Dropout)} == {0.25}
    before = model(torch.rand(2, 1, 64, 64)).mean()
    model.start_from_logits([-3.0, -5.0])
    assert (model(torch.rand(2, 1, 64, 64)).mean() - before).item() == pytest.approx(-4.0, abs=0.3)


def test_unknown_backbone_names_the_known():
    with pytest.raises(OptionError, match="choose one of: .*unet"):
        build_segmenter("vnet", 1, "instance")
