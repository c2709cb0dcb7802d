"""Properties of every backbone."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from frugalseg.errors import OptionError
from frugalseg.models.blocks import InstanceNorm, upsample
from frugalseg.models.registry import BACKBONES, build_projection, build_segmenter, choose_norm
from frugalseg.models.saved import load_encoder, save_model
from frugalseg.records.networks import EncoderRecord
from tests.records.files import FORMAT_0

PARAMETERS = {
    "unet": (1_178_480, 783_857),
    "resunet": (11_152_352, 3_134_433),
    "resnet18-unet": (11_170_240, 3_208_257),
    "resnet34-unet": (21_278_400, 3_208_257),
    "resnet50-unet": (23_501_760, 9_069_633),
    "resnet50-caffe-unet": (23_501_760, 9_069_633),
    "transunet": (97_934_656, 7_387_345),
    "transunet-small": (2_706_272, 579_281),
    "supercl-unet": (4_713_568, 3_049_793),
}
LIGHT = ("resunet", "transunet-small", "supercl-unet")


def count(module):
    return sum(p.numel() for p in module.parameters())


def built(name, **changes):
    torch.manual_seed(0)
    return build_segmenter(name, 2, choose_norm(name, None, "instance_affine"), **changes)


def test_every_backbone_has_its_counts():
    assert PARAMETERS.keys() == BACKBONES.keys()


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_counts(name):
    with torch.device("meta"):
        segmenter = build_segmenter(name, 1, choose_norm(name, None, "instance"))
    assert (count(segmenter.encoder), count(segmenter.decoder)) == PARAMETERS[name]


def test_the_published_totals():
    with torch.device("meta"):
        assert round(count(build_segmenter("resunet", 1, "batch")) / 1e6, 3) == 14.287
        projection = build_projection("supercl-unet", "batch", head="mlp")
        assert round(count(projection) / 1e6, 2) == 5.24
        # TransUNet is told with 224 px (14×14 positions) and nine classes: 105.28 M.
        transunet = build_segmenter("transunet", 9, "batch")
        assert round((count(transunet) - (16 * 16 - 14 * 14) * 768) / 1e6, 2) == 105.28


@pytest.mark.parametrize("size", [(101, 75), (7, 130), (1, 1)])
@pytest.mark.parametrize("name", LIGHT)
def test_any_size_comes_back(name, size):
    assert built(name)(torch.rand(2, 1, *size)).shape == (2, 2, *size)


@pytest.mark.parametrize("name", ["unet", "resunet", "resnet50-unet", "transunet-small", "supercl-unet"])
def test_gradients_reach_every_parameter(name):
    model = built(name, dropout=0.0)
    model(torch.rand(2, 1, 64, 64)).square().sum().backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None]
    # The norm behind a convolution takes its bias away again: what gradient is left is rounding, or nothing.
    normed = {f"{n}.bias" for n, m in model.named_modules() if isinstance(m, nn.Conv2d)} - {"decoder.classify.bias"}
    assert not [n for n, p in model.named_parameters() if n not in normed and not p.grad.any()]


@pytest.mark.parametrize("name", LIGHT)
def test_contrast_reaches_the_whole_encoder(name):
    model = build_projection(name, "batch", head="mlp")
    model(torch.rand(2, 1, 64, 64)).square().sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    assert all(p.grad.any() for n, p in model.named_parameters() if n.endswith("weight"))


@pytest.mark.parametrize("name", [*LIGHT, "unet"])
def test_maps_are_what_the_encoder_says(name):
    encoder = built(name).encoder
    features = encoder(torch.rand(1, 1, 64, 96))
    assert tuple(f.shape[1] for f in features) == tuple(encoder.channels)
    assert features[-1].shape[-2:] == (64 // encoder.stride, 96 // encoder.stride)
    assert encoder.embed(features).shape == (1, encoder.embedding_dim)


@pytest.mark.parametrize("name", [*LIGHT, "unet"])
def test_neighbouring_slices_as_channels(name):
    norm = choose_norm(name, None, "instance")
    assert build_segmenter(name, 2, norm, inputs=3)(torch.rand(1, 3, 64, 64)).shape == (1, 2, 64, 64)
    assert build_projection(name, norm, inputs=5)(torch.rand(2, 5, 64, 64)).shape[0] == 2
    with pytest.raises(RuntimeError, match="3 channels|to have 3"):
        build_segmenter(name, 2, norm, inputs=3)(torch.rand(1, 1, 64, 64))


@pytest.mark.parametrize("name", LIGHT)
def test_output_stays_with_its_pixel(name):
    """Padding, strides and upsampling must not shift: a spot changes the output around itself."""
    model = built(name).eval()
    for module in model.modules():
        if isinstance(module, nn.InstanceNorm2d):  # it would carry the change over the whole image
            module.forward = lambda x: x / 2
    torch.manual_seed(1)
    image = torch.rand(1, 1, 101, 75) / 10
    spot = image.clone()
    spot[..., 68:72, 18:22] += 5.0
    with torch.no_grad():
        change = (model(spot) - model(image)).square().sum(dim=(0, 1))
    inside = change[60:80, 10:30].mean()
    assert inside > 5 * change.mean()


@pytest.mark.parametrize("name", LIGHT)
def test_logits_are_not_squashed_and_start_where_told(name):
    model = built(name)
    image = torch.rand(2, 1, 64, 64)
    before = model(image).mean()
    model.start_from_logits([-3.0] * model.decoder.classify.out_channels)
    assert (model(image).mean() - before).item() == pytest.approx(-3.0, abs=0.3)


def test_dropout_is_the_backbone_s_own_unless_told():
    def rates(name, **changes):
        return {m.p for m in built(name, **changes).modules() if isinstance(m, nn.Dropout)}

    assert rates("resunet") == rates("unet") == {0.25}
    assert rates("transunet-small") == {0.1}
    assert rates("transunet-small", dropout=0.0) == rates("resunet", dropout=0.0) == {0.0}


@pytest.mark.parametrize("name", ["resunet", "resnet18-unet", "supercl-unet"])
def test_instance_norms_instead_of_batch_norms(name):
    model = build_segmenter(name, 1, "instance_affine")
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    assert any(isinstance(m, nn.InstanceNorm2d) and m.affine for m in model.modules())
    assert model(torch.rand(1, 1, 40, 40)).shape == (1, 1, 40, 40)


def test_the_resunet_s_decoder_is_normalised_as_published():
    model = build_segmenter("resunet", 1, "batch")
    assert all(isinstance(m, nn.BatchNorm2d) for n, m in model.encoder.named_modules() if n.endswith("bn1"))
    assert {(m.affine, type(m)) for m in model.decoder.modules() if hasattr(m, "affine")} == {(False, InstanceNorm)}


def test_norms_are_asked_for_owned_or_preferred():
    assert choose_norm("unet", None, "instance_affine") == "instance_affine"
    assert choose_norm("unet", None, "instance") == "instance"
    assert choose_norm("unet", "batch", "instance") == "batch"
    assert choose_norm("resunet", None, "instance_affine") == "batch"
    assert choose_norm("resunet", "instance_affine", "batch") == "instance_affine"
    with pytest.raises(OptionError, match=r"--norm instance is not available for --backbone transunet\n.*batch"):
        choose_norm("transunet", "instance", "batch")
    with pytest.raises(OptionError, match="choose one of: .*transunet"):
        choose_norm("vnet", None, "batch")
    with pytest.raises(OptionError, match="--norm instance is not available for --backbone resunet"):
        build_segmenter("resunet", 1, "instance")


def test_a_pre_trained_encoder_starts_a_segmenter(tmp_path):
    projection = build_projection("transunet-small", "batch", head="mlp")
    save_model(tmp_path, projection, EncoderRecord.read(FORMAT_0 / "encoder.model.json"))
    segmenter = build_segmenter("transunet-small", 3, "batch")
    load_encoder(segmenter.encoder, tmp_path)
    for name, tensor in projection.encoder.state_dict().items():
        assert torch.equal(segmenter.encoder.state_dict()[name], tensor), name


@pytest.mark.parametrize(
    ("name", "norm", "device", "expected"),
    [
        ("unet", "batch", None, (True, True)),
        ("unet", "instance_affine", None, (False, False)),
        ("unet", "instance_affine", torch.device("cuda"), (False, False)),
        ("unet", "instance_affine", torch.device("cpu"), (True, True)),
        ("resunet", "batch", None, (True, False)),  # its decoder has instance norms
        ("resunet", "batch", torch.device("cpu"), (True, True)),
        ("transunet-small", "batch", torch.device("cpu"), (False, True)),  # its trunk has group norms
    ],
)
def test_weights_are_channels_last_where_that_is_faster(name, norm, device, expected):
    torch.manual_seed(0)
    network = build_segmenter(name, 2, norm, device=device).eval()
    found = tuple(
        any(p.ndim == 4 and not p.is_contiguous() for p in part.parameters())
        for part in (network.encoder, network.decoder)
    )
    assert found == expected
    image = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        quick = network(image)
        plain = network.to(memory_format=torch.contiguous_format)(image)
    torch.testing.assert_close(quick, plain, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("affine", [True, False])
def test_instance_norm_keeps_the_memory_layout_of_its_maps(affine):
    torch.manual_seed(0)
    own, torchs = InstanceNorm(3, affine=affine), torch.nn.InstanceNorm2d(3, affine=affine)
    if affine:
        with torch.no_grad():
            own.weight.copy_(torchs.weight.normal_())
            own.bias.copy_(torchs.bias.normal_())
    first = torch.rand(4, 3, 8, 6, requires_grad=True)
    last = first.detach().to(memory_format=torch.channels_last).requires_grad_()
    expected, found = torchs(first), own(last)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert own(first).is_contiguous()
    torch.testing.assert_close(found, expected)
    pull = torch.rand_like(expected)
    expected.backward(pull)
    found.backward(pull)
    torch.testing.assert_close(last.grad, first.grad)
    torch.testing.assert_close([p.grad for p in own.parameters()], [p.grad for p in torchs.parameters()])


def test_upsampling_is_pytorch_s_in_both_layouts_with_a_sliced_gradient():
    torch.manual_seed(0)
    first = torch.rand(2, 3, 5, 4, requires_grad=True)
    last = first.detach().to(memory_format=torch.channels_last).requires_grad_()
    pull = torch.rand(2, 5, 10, 8)
    for x, layout in ((first, torch.contiguous_format), (last, torch.channels_last)):
        found = upsample(x)
        assert found.is_contiguous(memory_format=layout)
        expected = F.interpolate(x.detach(), scale_factor=2, mode="bilinear", align_corners=True)
        torch.testing.assert_close(found, expected)
        found.backward(pull.to(memory_format=layout)[:, 1:4])
    torch.testing.assert_close(last.grad, first.grad)
