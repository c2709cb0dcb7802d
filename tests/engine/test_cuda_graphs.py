from __future__ import annotations

import copy
import weakref

import pytest
import torch
from torch import nn

from frugalseg.engine.cuda_graphs import capture
from frugalseg.models.registry import BACKBONES, build_projection, build_segmenter
from frugalseg.pretraining.learners import TripletLearner

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="passes are recorded on a GPU, and there is none")

SHAPE = (4, 1, 16, 16)


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3), nn.Conv2d(4, 2, 1)
    return nn.Sequential(*layers).cuda()


def pass_through(model: nn.Module, seed: int):
    """Output, gradients and buffers after a step on the images, and with the dropout, of `seed`."""
    images = torch.rand(SHAPE, generator=torch.Generator().manual_seed(seed)).cuda()
    model.zero_grad()
    torch.manual_seed(seed)
    logits = model(images)
    logits.square().mean().backward()
    return logits.detach().clone(), [p.grad.clone() for p in model.parameters()], [b.clone() for b in model.buffers()]


def assert_close(found, wanted, within=1e-2):
    """Compare norms, not elements: kernels may differ, and so may their precision."""
    pairs = [(found[0], wanted[0]), *zip(found[1], wanted[1], strict=True)]
    assert all((one is None) == (other is None) for one, other in pairs)
    pairs = [(one.float(), other.float()) for one, other in pairs if one is not None]
    largest = max(float(other.norm()) for _, other in pairs)
    for one, other in pairs:
        assert float((one - other).norm()) < within * max(float(other.norm()), 1e-2 * largest)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_replayed_passes_equal_the_network_s(kind):
    plain, replayed = network(), network()

    def arithmetic():
        return torch.autocast("cuda", kind, enabled=kind != torch.float32)

    with arithmetic():
        capture(replayed, SHAPE)
    for seed in range(3):
        with arithmetic():
            found = pass_through(replayed, seed)
        with arithmetic():
            wanted = pass_through(plain, seed)
        assert_close(found, wanted, within=1e-2 if kind == torch.float32 else 5e-2)
        for one, other in zip(found[2], wanted[2], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize(
    "build",
    [
        *(
            pytest.param(lambda name=name, norm=norm: build_segmenter(name, 1, norm, 0.0), id=f"{name} {norm}")
            for name, backbone in BACKBONES.items()
            for norm in backbone.norms
        ),
        pytest.param(lambda: build_segmenter("unet", 1, "instance_affine", 0.25), id="with dropout"),
        pytest.param(lambda: build_projection("unet", "instance_affine"), id="projection"),
        pytest.param(lambda: TripletLearner(build_projection("unet", "batch", 0.0), 0.05), id="a pass a view"),
    ],
)
def test_every_backbone_can_be_replayed(build):
    torch.manual_seed(0)
    plain = build().cuda()
    replayed = copy.deepcopy(plain)
    shape = (6, 1, 64, 64)
    capture(replayed, shape)
    images, direction, passes = torch.rand(shape, device="cuda"), None, []
    for model in (plain, replayed):
        torch.manual_seed(1)
        outputs = model(images)
        direction = torch.randn_like(outputs) if direction is None else direction
        (outputs * direction).sum().backward()
        passes.append((outputs.detach().clone(), [p.grad for p in model.parameters()]))
    assert_close(passes[1], passes[0], within=2e-2)


def test_a_deleted_network_frees_its_memory():
    """As in the rounds of self-training."""
    model = network()
    capture(model, SHAPE)
    pass_through(model, 0)
    gone = weakref.ref(model)
    del model
    other = network()
    capture(other, SHAPE)
    assert gone() is None
    pass_through(other, 0)


def test_capturing_does_not_change_the_network():
    model = network()
    before = copy.deepcopy(model.state_dict())
    capture(model, SHAPE)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_dropout_follows_the_seed_of_the_step():
    model = network()
    capture(model, SHAPE)
    first, again, other = (pass_through(model, seed)[0] for seed in (1, 1, 2))
    torch.testing.assert_close(first, again)
    assert not torch.allclose(first, other)


def test_replays_use_changed_weights():
    model = network()
    capture(model, SHAPE)
    pass_through(model, 3)
    torch.optim.AdamW(model.parameters(), lr=0.1).step()
    plain = network()
    plain.load_state_dict(model.state_dict())
    assert_close(pass_through(model, 0), pass_through(plain, 0))


def test_in_evaluation_other_shapes_are_computed_as_before():
    plain, replayed = network().eval(), network()
    capture(replayed, SHAPE)
    images = torch.rand(3, 1, 24, 40, device="cuda")
    torch.testing.assert_close(replayed.eval()(images), plain(images), rtol=1e-2, atol=1e-3)
