"""The light decoder on features: its resolution, what it saves, and that it runs the encoder only where it must."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F

from frugalseg.dataset.augment import Augment
from frugalseg.dataset.resample import affine, affine_grid, resample, rotation
from frugalseg.dataset.source import Slices
from frugalseg.features.decoder import build_feature_segmenter, decoder_sides
from frugalseg.models.blocks import InstanceNorm
from tests.features.encoders import block_means


@pytest.mark.parametrize(
    ("map_side", "side", "expected"),
    [
        (64, 96, [96]),
        (64, 128, [128]),
        (64, 160, [128]),
        (64, 256, [128]),
        (64, 512, [128, 256]),
        (32, 256, [64, 128]),
        (64, 32, [32]),
        (16, 33, [32, 33]),
    ],
)
def test_blocks_end_at_the_slices_or_half_of_large_ones(map_side, side, expected):
    assert decoder_sides(map_side, side) == expected


@pytest.mark.parametrize("context", [0, 1])
def test_given_features_stand_in_for_the_encoder(context):
    encoder = block_means()
    network = build_feature_segmenter(encoder, context, 40, 2, "instance_affine", 0.0).eval()
    slices = torch.rand(3, 2 * context + 1, 40, 40)
    features = encoder(slices.flatten(0, 1)).reshape(3, -1, 16, 16)
    encoder.model.encoded = 0
    logits = network(slices, features)
    assert (logits.shape, encoder.model.encoded) == ((3, 2, 40, 40), 0)
    assert torch.equal(network(slices), logits)
    assert encoder.model.encoded == 3 * (2 * context + 1)


@pytest.mark.parametrize("side", [8, 160])
def test_it_trains_in_bfloat16_at_sides_that_shrink_slice_or_map(side):
    network = build_feature_segmenter(block_means(), 0, side, 1, "batch", 0.0)
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(torch.rand(2, 1, side, side).bfloat16(), torch.rand(2, 2, 16, 16).bfloat16())
    logits.float().sum().backward()
    assert logits.shape == (2, 1, side, side)
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_features_and_slice_both_reach_the_logits():
    network = build_feature_segmenter(block_means(), 0, 32, 1, "instance_affine", 0.0).eval()
    slices, features = torch.rand(1, 1, 32, 32), torch.rand(1, 2, 16, 16)
    logits = network(slices, features)
    assert not torch.allclose(network(slices, features.flip(3)), logits)
    assert not torch.allclose(network(slices.flip(3), features), logits)


def test_the_place_in_the_slice_reaches_the_logits():
    """The same features and grey everywhere: only the place can tell pixels apart."""
    torch.manual_seed(0)
    network = build_feature_segmenter(block_means(), 0, 64, 1, "batch", 0.0)
    labels = torch.zeros(1, 1, 64, 64)
    labels[..., :32, 32:] = 1
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(60):
        logits = network(torch.full((1, 1, 64, 64), 0.5), torch.full((1, 2, 16, 16), 0.5))
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(logits, labels).backward()
        optimizer.step()
    assert ((logits > 0) == (labels > 0)).float().mean() > 0.95


def test_the_encoder_is_shared_by_copies_and_not_saved():
    encoder = block_means()
    network = build_feature_segmenter(encoder, 0, 32, 1, "batch", 0.0)
    assert deepcopy(network).frozen is encoder
    assert all(name.startswith("decoder.") for name in network.state_dict())
    assert any(isinstance(layer, torch.nn.BatchNorm2d) for layer in network.modules())
    assert not any(isinstance(layer, InstanceNorm) for layer in network.modules())


def test_features_are_moved_with_their_slice():
    """Features of a moved slice, and moved features of a slice, show the same at the same place."""
    encoder = block_means()
    rows, columns = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    spot = (-((rows - 20) ** 2 + (columns - 36) ** 2) / 200.0).exp()[None, None]
    turn = affine(rotation(torch.tensor([0.5])), torch.tensor([[0.1, -0.2]]))
    batch = Slices(spot, None, features=encoder(spot[:, 0]))
    moved = resample(batch, affine_grid(turn, 64))
    inside = encoder(resample(Slices(torch.ones_like(spot), None), affine_grid(turn, 64)).images[:, 0])[:, 0] > 0.99
    assert inside.float().mean() > 0.6
    assert (moved.features - encoder(moved.images[:, 0]))[:, 0][inside].abs().max() < 0.05
    assert (batch.features - moved.features)[:, 0].abs().max() > 0.3
    torch.manual_seed(0)
    assert not torch.equal(Augment("robust").move(batch).features, batch.features)
