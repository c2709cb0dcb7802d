"""The mean of several networks' probabilities."""

import torch
from torch import Tensor, nn

from frugalseg.segmentation.ensemble import Ensemble
from frugalseg.segmentation.losses import probabilities


class Fixed(nn.Module):
    """Gives the same logits whatever it sees, and keeps what it saw."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, images: Tensor) -> Tensor:
        self.seen = images
        return self.logits


def test_probabilities_are_the_mean_of_those_of_the_networks():
    first, second = (torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(seed)) * 4 for seed in (0, 1))
    logits = Ensemble([Fixed(first), Fixed(second)], [0, 0])(torch.zeros(2, 1, 4, 5))
    torch.testing.assert_close(probabilities(logits), (probabilities(first) + probabilities(second)) / 2)


def test_certain_networks_that_contradict_each_other_give_finite_logits():
    certain = torch.full((1, 1, 2, 2), 200.0)
    logits = Ensemble([Fixed(certain), Fixed(certain)], [0, 0])(torch.zeros(1, 1, 2, 2))
    assert torch.isfinite(logits).all()
    against = Ensemble([Fixed(certain), Fixed(-certain)], [0, 0])(torch.zeros(1, 1, 2, 2))
    torch.testing.assert_close(probabilities(against), torch.full((1, 1, 2, 2), 0.5))


def test_each_network_sees_the_neighbours_that_it_was_trained_with():
    networks = [Fixed(torch.zeros(1, 1, 2, 2)) for _ in range(3)]
    images = torch.arange(5.0).reshape(1, 5, 1, 1).expand(1, 5, 2, 2)
    Ensemble(networks, [0, 2, 1])(images)
    assert [network.seen[0, :, 0, 0].tolist() for network in networks] == [[2], [0, 1, 2, 3, 4], [1, 2, 3]]
