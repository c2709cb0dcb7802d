"""Published weights: synthetic files with the right names and shapes, and random values."""

from __future__ import annotations

import hashlib
import json
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from frugalseg.errors import OptionError, RunError
from frugalseg.models.imagenet import CAFFE, IMAGENET, load_imagenet
from frugalseg.models.pretrained_weights import load_published
from frugalseg.models.registry import build_projection
from frugalseg.models.resnet import ResNetEncoder, ResNetShape
from frugalseg.models.transunet import TransUNetEncoder, TransUNetShape
from frugalseg.records.networks import PublishedWeights

TINY = ResNetShape(name="resnet10", depths=(1, 1, 1, 1))
TINY50 = ResNetShape(name="resnet50", depths=(1, 1, 1, 1), bottleneck=True)
TINY50_CAFFE = ResNetShape(name="resnet50", depths=(1, 1, 1, 1), bottleneck=True, stride_on="1x1")
VIT = TransUNetShape(width=32, depths=(1, 2, 1), dim=24, heads=3, hidden=48, blocks=2, widths=(8, 8, 8, 8, 8))


def colour_resnet(shape=TINY):
    """A network over normalised colours, as if trained: its norms have statistics."""
    torch.manual_seed(0)
    network = ResNetEncoder(shape, "batch", inputs=3).eval()
    for name, buffer in network.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_()
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
    return network


def torchvision_file(tmp_path, network, name="resnet.pth"):
    content = {**network.state_dict(), "fc.weight": torch.rand(10, 512), "fc.bias": torch.rand(10)}
    torch.save(content, tmp_path / name)
    return tmp_path / name


def normalised(grey, normalisation):
    mean, std = (torch.tensor(v).reshape(1, 3, 1, 1) for v in (normalisation.mean, normalisation.std))
    return (grey.repeat(1, 3, 1, 1) - mean) / std


@pytest.mark.parametrize("inputs", [1, 3])
def test_the_folded_stem_is_the_colour_stem_on_a_normalised_grey_image(tmp_path, inputs):
    colour = colour_resnet()
    grey = ResNetEncoder(TINY, "batch", inputs).eval()
    facts = load_imagenet(TINY, grey, torchvision_file(tmp_path, colour))
    assert facts.mean == (0.485, 0.456, 0.406)
    x = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        expected = colour.bn1(colour.conv1(normalised(x, IMAGENET)))
        found = grey.bn1(grey.conv1(x.repeat(1, inputs, 1, 1)))
    assert torch.allclose(found[..., 2:-2, 2:-2], expected[..., 2:-2, 2:-2], atol=1e-4)
    # The border is the documented difference: black around the image instead of ImageNet's mean grey.
    assert (found - expected)[..., 0, :].abs().max() > 0.1


def test_all_else_is_taken_as_it_is(tmp_path):
    colour = colour_resnet()
    grey = ResNetEncoder(TINY, "batch")
    load_imagenet(TINY, grey, torchvision_file(tmp_path, colour))
    for name, tensor in grey.state_dict().items():
        if name not in ("conv1.weight", "bn1.running_mean"):
            assert torch.equal(tensor, colour.state_dict()[name]), name


def test_caffe_s_order_scale_and_bias_are_folded(tmp_path):
    colour = colour_resnet(TINY50_CAFFE)
    bias = torch.randn(64)
    weights = {n: t for n, t in colour.state_dict().items() if not n.endswith("num_batches_tracked")}
    save_file({**weights, "conv1.bias": bias}, tmp_path / "caffe.safetensors")
    grey = ResNetEncoder(TINY50_CAFFE, "batch").eval()
    facts = load_imagenet(TINY50_CAFFE, grey, tmp_path / "caffe.safetensors")
    assert "Caffe" in facts.kind
    x = torch.rand(1, 1, 32, 32)
    blue_green_red = x.repeat(1, 3, 1, 1) * 255 - torch.tensor([103.53, 116.28, 123.675]).reshape(1, 3, 1, 1)
    assert torch.allclose(normalised(x, CAFFE), blue_green_red, atol=1e-3)
    with torch.no_grad():
        expected = colour.bn1(colour.conv1(blue_green_red) + bias.reshape(1, 64, 1, 1))
        found = grey.bn1(grey.conv1(x))
    torch.testing.assert_close(found[..., 2:-2, 2:-2], expected[..., 2:-2, 2:-2], rtol=1e-4, atol=1e-2)


def test_the_two_resnet50_are_told_apart_where_the_file_tells(tmp_path):
    colour = colour_resnet(TINY50)
    path = torchvision_file(tmp_path, colour)
    with pytest.raises(OptionError, match="come from PyTorch .*\n.*resnet50-unet"):
        load_imagenet(TINY50_CAFFE, ResNetEncoder(TINY50_CAFFE, "batch"), path)
    torch.save({**colour.state_dict(), "conv1.bias": torch.rand(64)}, path)
    with pytest.raises(OptionError, match="come from Caffe .*\n.*resnet50-caffe-unet"):
        load_imagenet(TINY50, ResNetEncoder(TINY50, "batch"), path)


def test_timm_s_config_tells_architecture_and_normalisation(tmp_path):
    colour = colour_resnet()
    path = tmp_path / "model.safetensors"
    save_file(colour.state_dict(), path)
    config = {"architecture": "resnet10", "pretrained_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.25, 0.5]}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    grey = ResNetEncoder(TINY, "batch").eval()
    assert load_imagenet(TINY, grey, path).std == (0.5, 0.25, 0.5)
    with pytest.raises(RunError, match="is of resnet10, .* expected resnet18"):
        load_imagenet(ResNetShape(name="resnet18", depths=(2, 2, 2, 2)), grey, path)
    config["pretrained_cfg"]["std"] = [0.5]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(RunError, match="states no mean and std of three colours"):
        load_imagenet(TINY, grey, path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(RunError, match=r"config.json, beside the weights, cannot be read"):
        load_imagenet(TINY, grey, path)
    (tmp_path / "config.json").write_text('{"model_type": "sam"}')
    assert load_imagenet(TINY, grey, path).std == (0.229, 0.224, 0.225)


def test_the_record_of_a_whole_resnet18(tmp_path):
    shape = ResNetShape(name="resnet18", depths=(2, 2, 2, 2))
    path = torchvision_file(tmp_path, colour_resnet(shape))
    encoder = build_projection("resnet18-unet", "batch").encoder
    assert load_published(encoder, "resnet18-unet", path) == PublishedWeights(
        file="resnet.pth",
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        kind="ImageNet resnet18 (torchvision, v1.5)",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        parameters=11_170_240,
    )


def test_wrappers_and_old_files_are_read(tmp_path):
    colour = colour_resnet()
    old = {n: t for n, t in colour.state_dict().items() if not n.endswith("num_batches_tracked")}
    torch.save({"epoch": 3, "state_dict": {f"module.{n}": t for n, t in old.items()}}, tmp_path / "old.pth.tar")
    grey = ResNetEncoder(TINY, "batch")
    load_imagenet(TINY, grey, tmp_path / "old.pth.tar")
    assert torch.equal(grey.layer4[0].conv2.weight, colour.layer4[0].conv2.weight)


def changed(network, **tensors):
    return {**network.state_dict(), **{name.replace("__", "."): tensor for name, tensor in tensors.items()}}


def without(network, name):
    return {n: t for n, t in network.state_dict().items() if n != name}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda n: without(n, "layer2.0.conv2.weight"), "the weight layer2.0.conv2.weight is missing"),
        (lambda n: without(n, "conv1.weight"), "it has no conv1.weight over three colours"),
        (lambda n: without(n, "bn1.running_mean"), "it has no conv1.weight over three colours with a bn1"),
        (
            lambda n: changed(n, layer1__3__conv1__weight=torch.rand(1)),
            "the weight layer1.3.conv1.weight is unexpected",
        ),
        (lambda n: changed(n, conv1__weight=torch.rand(64, 1, 7, 7)), "over three colours"),
        (lambda n: changed(n, conv1__weight=torch.rand(32, 3, 7, 7)), r"conv1.weight has the shape \(32, 1, 7, 7\)"),
        (lambda n: changed(n, bn1__running_mean=torch.rand(3)), r"bn1.running_mean has the shape \(3,\), .*\(64,\)"),
        (lambda n: changed(n, layer1__0__bn1__bias=torch.full((64,), torch.nan)), "layer1.0.bn1.bias .* not finite"),
        (lambda n: changed(n, conv1__bias=torch.rand(3)), "the weight conv1.bias is unexpected"),
        (lambda n: {"state_dict": 3}, "not a table of tensors"),
        (lambda n: [torch.rand(1)], "not a table of tensors"),
    ],
)
def test_another_network_is_named_by_its_first_difference(tmp_path, spoil, message):
    grey = ResNetEncoder(TINY, "batch")
    before = {name: tensor.clone() for name, tensor in grey.state_dict().items()}
    torch.save(spoil(colour_resnet()), tmp_path / "other.pth")
    with pytest.raises(RunError, match=message):
        load_imagenet(TINY, grey, tmp_path / "other.pth")
    assert all(torch.equal(tensor, before[name]) for name, tensor in grey.state_dict().items())


class Malice:
    def __reduce__(self):
        return (print, ("unpickled",))


def test_nothing_is_unpickled(tmp_path, capsys):
    encoder = ResNetEncoder(TINY, "batch")
    torch.save({"conv1.weight": Malice()}, tmp_path / "evil.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Malice(), protocol=2))
    np.savez(tmp_path / "evil.npz", **{"conv_root/kernel": np.array([Malice()], dtype=object)})
    for name in ("evil.pth", "plain.pth"):
        with pytest.raises(RunError, match="holds more than weights"):
            load_imagenet(TINY, encoder, tmp_path / name)
    with pytest.raises(RunError, match="holds more than weights"):
        load_published(TransUNetEncoder(VIT), "transunet", tmp_path / "evil.npz")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("ending", ["pth", "safetensors", "npz"])
@pytest.mark.parametrize("kept", [0, 40, 0.5, 0.99])
def test_a_file_cut_off_is_an_error(tmp_path, ending, kept):
    path = tmp_path / f"weights.{ending}"
    if ending == "npz":
        np.savez(path, **google_arrays())
        network, name = TransUNetEncoder(VIT), "transunet"
    else:
        state = {"conv1.weight": torch.rand(64, 3, 7, 7), "bn1.running_mean": torch.rand(64)}
        torch.save(state, path) if ending == "pth" else save_file(state, path)
        network, name = ResNetEncoder(TINY, "batch"), "resnet18-unet"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if kept < 1 else kept])
    with pytest.raises(RunError, match="cannot be read"):
        load_published(network, name, path)


def test_options_that_make_no_sense(tmp_path):
    encoder = build_projection("unet", "instance").encoder
    path = torchvision_file(tmp_path, colour_resnet())
    with pytest.raises(
        OptionError, match="there are no published weights for --backbone unet\n.*resnet18-unet.*transunet"
    ):
        load_published(encoder, "unet", path)
    with pytest.raises(OptionError, match="no such file"):
        load_published(encoder, "resnet18-unet", tmp_path / "missing.pth")
    with pytest.raises(OptionError, match="expected an .npz file"):
        load_published(TransUNetEncoder(VIT), "transunet", path)
    with pytest.raises(OptionError, match="--norm batch"):
        load_imagenet(TINY, ResNetEncoder(TINY, "instance_affine"), path)
    (tmp_path / "weights.h5").touch()
    with pytest.raises(OptionError, match="expected a .safetensors or PyTorch file"):
        load_imagenet(TINY, ResNetEncoder(TINY, "batch"), tmp_path / "weights.h5")


def google_arrays(grid=3):
    """Arrays with Flax's names and shapes for the network `VIT`."""
    draw = np.random.default_rng(0)
    shapes = {
        "cls": (1, 1, 24),
        "head/kernel": (24, 7),
        "head/bias": (7,),
        "pre_logits/kernel": (24, 24),
        "pre_logits/bias": (24,),
        "conv_root/kernel": (7, 7, 3, 32),
        "gn_root/scale": (32,),
        "gn_root/bias": (32,),
        "embedding/kernel": (1, 1, 512, 24),
        "embedding/bias": (24,),
        "Transformer/posembed_input/pos_embedding": (1, 1 + grid * grid, 24),
        "Transformer/encoder_norm/scale": (24,),
        "Transformer/encoder_norm/bias": (24,),
    }
    for stage, (inputs, outputs, units) in enumerate(((32, 128, 1), (128, 256, 2), (256, 512, 1)), start=1):
        for unit in range(1, units + 1):
            at, first = f"block{stage}/unit{unit}", inputs if unit == 1 else outputs
            middle = outputs // 4
            for i, kernel in enumerate(((1, 1, first, middle), (3, 3, middle, middle), (1, 1, middle, outputs)), 1):
                shapes[f"{at}/conv{i}/kernel"] = kernel
                shapes[f"{at}/gn{i}/scale"] = shapes[f"{at}/gn{i}/bias"] = (1, 1, 1, kernel[-1])
            if unit == 1:
                shapes[f"{at}/conv_proj/kernel"] = (1, 1, first, outputs)
                shapes[f"{at}/gn_proj/scale"] = shapes[f"{at}/gn_proj/bias"] = (1, 1, 1, outputs)
    for i in range(2):
        at = f"Transformer/encoderblock_{i}"
        for part in ("query", "key", "value"):
            shapes[f"{at}/MultiHeadDotProductAttention_1/{part}/kernel"] = (24, 3, 8)
            shapes[f"{at}/MultiHeadDotProductAttention_1/{part}/bias"] = (3, 8)
        shapes[f"{at}/MultiHeadDotProductAttention_1/out/kernel"] = (3, 8, 24)
        shapes[f"{at}/MultiHeadDotProductAttention_1/out/bias"] = (24,)
        shapes |= {f"{at}/MlpBlock_3/Dense_0/kernel": (24, 48), f"{at}/MlpBlock_3/Dense_0/bias": (48,)}
        shapes |= {f"{at}/MlpBlock_3/Dense_1/kernel": (48, 24), f"{at}/MlpBlock_3/Dense_1/bias": (24,)}
        for norm in ("LayerNorm_0", "LayerNorm_2"):
            shapes |= {f"{at}/{norm}/scale": (24,), f"{at}/{norm}/bias": (24,)}
    return {name: draw.standard_normal(shape).astype(np.float32) / 3 for name, shape in shapes.items()}


def loaded_vit(tmp_path, arrays, inputs=1):
    np.savez(tmp_path / "vit.npz", **arrays)
    encoder = TransUNetEncoder(VIT, dropout=0.0, inputs=inputs).eval()
    return encoder, load_published(encoder, "transunet", tmp_path / "vit.npz")


def test_google_s_block_computes_what_its_arrays_say(tmp_path):
    arrays = google_arrays()
    encoder, facts = loaded_vit(tmp_path, arrays)
    assert facts.kind == "Google's R50+ViT-B_16"
    assert facts.parameters == sum(p.numel() for p in encoder.parameters())

    def norm(x, at):
        scale, bias = arrays[f"{at}/scale"], arrays[f"{at}/bias"]
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6) * scale + bias

    x = np.random.default_rng(1).standard_normal((2, 6, 24)).astype(np.float32)
    at = "Transformer/encoderblock_1"
    attention = f"{at}/MultiHeadDotProductAttention_1"
    y = norm(x, f"{at}/LayerNorm_0")
    q, k, v = (
        np.einsum("bnd,dhk->bnhk", y, arrays[f"{attention}/{part}/kernel"]) + arrays[f"{attention}/{part}/bias"]
        for part in ("query", "key", "value")
    )
    scores = np.exp(np.einsum("bnhk,bmhk->bhnm", q, k) / np.sqrt(8))
    mixed = np.einsum("bhnm,bmhk->bnhk", scores / scores.sum(-1, keepdims=True), v)
    y = x + np.einsum("bnhk,hkd->bnd", mixed, arrays[f"{attention}/out/kernel"]) + arrays[f"{attention}/out/bias"]
    hidden = norm(y, f"{at}/LayerNorm_2") @ arrays[f"{at}/MlpBlock_3/Dense_0/kernel"]
    hidden = torch.nn.functional.gelu(torch.from_numpy(hidden + arrays[f"{at}/MlpBlock_3/Dense_0/bias"])).numpy()
    y = y + hidden @ arrays[f"{at}/MlpBlock_3/Dense_1/kernel"] + arrays[f"{at}/MlpBlock_3/Dense_1/bias"]
    with torch.no_grad():
        found = encoder.transformer.blocks[1](torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(found, y, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("inputs", [1, 3])
def test_google_s_root_sees_the_image_three_times(tmp_path, inputs):
    arrays = google_arrays()
    encoder, _ = loaded_vit(tmp_path, arrays, inputs)
    kernel = arrays["conv_root/kernel"]
    kernel = (kernel - kernel.mean((0, 1, 2))) / np.sqrt(kernel.var((0, 1, 2)) + 1e-5)
    x = torch.rand(1, 1, 32, 32)
    weight = torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy())
    expected = torch.nn.functional.conv2d(x.repeat(1, 3, 1, 1), weight, stride=2, padding=3)
    with torch.no_grad():
        found = encoder.trunk.conv_root(x.repeat(1, inputs, 1, 1))
    assert torch.allclose(found, expected, atol=1e-4)


def test_google_s_units_and_positions_lie_where_they_belong(tmp_path):
    arrays = google_arrays(grid=16)
    encoder, _ = loaded_vit(tmp_path, arrays)
    unit = encoder.trunk.block2.unit1
    np.testing.assert_array_equal(unit.conv2.weight.detach(), arrays["block2/unit1/conv2/kernel"].transpose(3, 2, 0, 1))
    np.testing.assert_array_equal(unit.gn3.weight.detach(), arrays["block2/unit1/gn3/scale"].ravel())
    np.testing.assert_array_equal(unit.gn_proj.bias.detach(), arrays["block2/unit1/gn_proj/bias"].ravel())
    np.testing.assert_array_equal(encoder.transformer.norm.weight.detach(), arrays["Transformer/encoder_norm/scale"])
    positions = arrays["Transformer/posembed_input/pos_embedding"]
    np.testing.assert_array_equal(encoder.transformer.positions.detach(), positions[:, 1:])


def test_positions_of_another_grid_keep_their_corners(tmp_path):
    arrays = google_arrays(grid=14)
    encoder, facts = loaded_vit(tmp_path, arrays)
    found = encoder.transformer.positions.detach().numpy().reshape(16, 16, 24)
    given = arrays["Transformer/posembed_input/pos_embedding"][0, 1:].reshape(14, 14, 24)
    for corner in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        np.testing.assert_allclose(found[corner], given[corner], atol=1e-6)
    assert facts.positions == (197, 24)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda a: a.pop("conv_root/kernel"), "a ViT without the ResNet"),
        (lambda a: a.clear() or a.update(x=np.zeros(1)), "it is without conv_root/kernel"),
        (lambda a: a.pop("block2/unit2/gn1/scale"), "the weight block2/unit2/gn1/scale is missing"),
        (
            lambda a: a.update({"Transformer/encoderblock_2/LayerNorm_0/scale": np.zeros(24)}),
            "encoderblock_2/.* is unexpected",
        ),
        (lambda a: a.update({"embedding/kernel": np.zeros((1, 1, 512, 32))}), r"embedding/kernel .*\(32, 512, 1, 1\)"),
        (lambda a: a.update({"embedding/kernel": np.zeros(3)}), r"embedding/kernel has the shape \(3,\)"),
        (lambda a: a.update({"conv_root/kernel": np.full((7, 7, 3, 32), np.inf)}), "conv_root/kernel .* not finite"),
        (
            lambda a: a.update({"Transformer/posembed_input/pos_embedding": np.zeros((1, 12, 24))}),
            "positions are not a square grid",
        ),
    ],
)
def test_another_vit_is_named_by_its_first_difference(tmp_path, spoil, message):
    arrays = google_arrays()
    spoil(arrays)
    with pytest.raises(RunError, match=message):
        loaded_vit(tmp_path, arrays)
