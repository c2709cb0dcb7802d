"""Two processes, each with a share of the batch, have the loss and the gradients of one with the whole batch."""

from __future__ import annotations

import pytest
import torch

from frugalseg.segmentation.consistency import consistency_loss
from frugalseg.segmentation.losses import make_loss, probabilities
from tests.processes import run_twice

NAMES = ("dice_per_slice", "dice_over_batch+ce", "log_dice_over_batch+ce", "ce")

WORKER = """
import torch.distributed as dist
from tests.segmentation.test_shared_losses import NAMES, learn
dist.init_process_group("gloo")
rank = dist.get_rank()
torch.save({name: learn(name, rank, 2) for name in (*NAMES, "consistency")}, Path(sys.argv[1]) / f"{rank}.pt")
dist.destroy_process_group()
"""


def learn(name, rank=0, world=1):
    """The loss, and the gradient of three weights by which all logits are made."""
    g = torch.Generator().manual_seed(1)
    x, classes = torch.randn(5, 2, 6, 6, generator=g), torch.randint(0, 3, (5, 6, 6), generator=g)
    classes[::2][classes[::2] == 2] = 0  # an organ that only the other process has
    weights, unknown = torch.rand(5, 6, 6, generator=g), torch.rand(5, 2, generator=g) < 0.3
    x, classes, weights, unknown = (tensor[rank::world] for tensor in (x, classes, weights, unknown))  # 3 and 2 slices
    theta = torch.tensor([1.0, -0.5, 0.3], requires_grad=True)
    logits = theta[0] * x + theta[1] * x.square() + theta[2]
    if name == "consistency":
        loss = consistency_loss(probabilities(logits), probabilities(x))
    else:
        loss = make_loss(name)(logits, classes, weights, unknown)["loss"]
    loss.backward()
    return loss.detach(), theta.grad


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    out = tmp_path_factory.mktemp("shared")
    run_twice(out, WORKER, out)
    return [torch.load(out / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.parametrize("name", [*NAMES, "consistency"])
def test_the_mean_over_two_processes_is_the_loss_of_one(halves, name):
    for of_both, whole in zip(zip(*(half[name] for half in halves), strict=True), learn(name), strict=True):
        mean = torch.stack(of_both).mean(dim=0)
        assert torch.allclose(mean, whole, atol=1e-6)
        assert not torch.allclose(mean, torch.zeros_like(whole))
