"""Training steps that one process, or each of two, can do on its share of the same batches."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from frugalseg.options import PretrainOptions
from frugalseg.pretraining import supercl
from frugalseg.pretraining.methods import METHODS, LearnerSettings
from frugalseg.pretraining.momentum import MoCo
from tests.pretraining.metadata import make_metadata

METHODS_TO_SHARE = (
    "polycl-m",
    "polycl-o-batch",
    "polycl-s-batch",
    "polycl-m-batch",
    "simclr",
    "supcon",
    "pcl",
    "gcl",
    "moco",
    "supercl",
)
STEPS = 3
FACTS = make_metadata([0] * 6 + [1] * 6, [[2 <= i % 6 < 4] for i in range(12)])


SUPERPIXELS = torch.randint(0, 3, (12, 4, 4), generator=torch.Generator().manual_seed(9), dtype=torch.int16)


class Encoder(nn.Module):
    """One map of four cells."""

    stride = 2

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 9, 2, stride=2), nn.Tanh())

    def forward(self, x):
        return [self.layers(x)]

    def embed(self, features):
        return features[-1].flatten(1)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = Encoder()
        self.head = nn.Linear(36, 128)

    def forward(self, x):
        return self.head(self.encoder.embed(self.encoder(x)))


def first_slices(batch, share, device):
    """No draw: the first half of a batch is then what the two processes have as the first halves of theirs."""
    return torch.arange(round(share * batch), device=device)


@mock.patch.object(supercl, "sample_slices", first_slices)
def learn(method, rank=0, world=1, half=None):
    """Losses, gradients and queue of a few steps; `half` learns from one process's share without the other."""
    torch.manual_seed(0)
    chosen = METHODS[method]
    options = PretrainOptions(
        data=Path("s"), out=Path("r"), method=method, queue_size=16, momentum=0.5, intra_slices=0.5
    )
    learner = chosen.learner(Net(), LearnerSettings(options, chosen.recipe.tau, STEPS, chosen.views))
    wrapped = DistributedDataParallel(learner) if world > 1 else learner
    optimizer = torch.optim.SGD(learner.network.parameters(), 0.1)
    triplets = torch.tensor([[2, 3, 1], [8, 9, 6], [0, 1, 2], [7, 10, 8]])
    steps = []
    for step in range(STEPS):
        learner.before_step(step)
        generator = torch.Generator().manual_seed(step)
        rows = triplets if method == "polycl-m" else torch.randperm(12, generator=generator)[:8]
        pictures = torch.rand(4, 12, 1, 4, 4, generator=generator)  # the views of every slice
        if half is not None:
            rows = rows[half::2]
        rows = rows[rank::world]
        rows = rows.reshape(len(rows), -1).T.reshape(-1)
        images = torch.cat([pictures[view][rows] for view in range(chosen.views)])
        found = learner.losses(wrapped(images), FACTS, rows.repeat(chosen.views), SUPERPIXELS[rows])
        found["loss"].backward()
        gradients = {name: p.grad.clone() for name, p in learner.network.named_parameters()}
        optimizer.step()
        optimizer.zero_grad()
        learner.after_step()
        noted = {"loss": found["loss"].detach(), "gradients": gradients}
        if isinstance(learner, MoCo):
            noted |= {"queue": learner.queue.clone(), "queue_rows": learner.queue_rows.clone()}
        steps.append(noted)
    return steps


def learn_all(out: Path) -> None:
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    torch.save({method: learn(method, rank, 2) for method in METHODS_TO_SHARE}, out / f"rank{rank}.pt")
    torch.distributed.destroy_process_group()
