"""A training small enough to run hundreds of times, with everything that could break exact resumption."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from frugalseg.engine.device import make_fabric
from frugalseg.engine.loop import train
from frugalseg.engine.run import RunFolder
from frugalseg.engine.task import TrainingPlan, TrainingTask


@dataclass(frozen=True)
class ToyOptions:
    out: Path
    resume: str = "no"
    lr: float = 0.05
    log_to: list[str] = field(default_factory=list)


class ToyTask(TrainingTask):
    """Regression with dropout and random noise; the score peaks in the middle of the run."""

    def __init__(self, seed=0, stop_at=None, peak=20, fail_at=None):
        torch.manual_seed(seed)
        self.x = torch.randn(50, 4)
        self.y = self.x @ torch.tensor([[1.0], [2.0], [-1.0], [0.5]])
        self.model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 1))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.05)
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(self.optimizer, T_0=14)
        self.steps_per_epoch = 7
        self.seed, self.stop_at, self.peak, self.fail_at = seed, stop_at, peak, fail_at
        self.seen, self.rates, self.steps = [], [], 0

    def batches(self, epoch):
        order = np.random.default_rng([self.seed, epoch]).permutation(50)
        return [torch.from_numpy(chunk) for chunk in order[:49].reshape(7, 7)]

    def stream(self, batches):
        for rows in batches:
            self.seen.append(rows.tolist())
            yield rows

    def losses(self, model, rows):
        self.steps += 1
        if self.stop_at is not None and self.steps > self.stop_at:
            raise Killed
        x = self.x[rows] + 0.01 * torch.randn(len(rows), 4)
        self.rates.append(self.optimizer.param_groups[0]["lr"])
        loss = (model(x) - self.y[rows]).square().mean()
        if self.fail_at == self.steps:
            loss = loss * float("nan")
        return {"loss": loss, "half": loss / 2}

    def validate(self):
        step = self.scheduler.last_epoch
        return {"score": -abs(step - self.peak) / 100}


class Killed(BaseException):
    """Simulates a kill: the loop must not catch it."""


def run_toy(out, task, resume="no", steps=40, every=10, minutes=1e9, log_to=()):
    fabric = make_fabric("cpu", "32")
    with RunFolder.claim("toy", ToyOptions(out, resume, log_to=[*log_to]), fabric) as run:
        train(task, TrainingPlan(steps, every, task.seed, clip=1.0, checkpoint_minutes=minutes), fabric, run)
        return run


class SmoothTask(ToyTask):
    """Without dropout and noise, with batches of even size: their mean gradient is the mean of their halves'."""

    def __init__(self):
        super().__init__()
        self.model[2] = nn.Identity()

    def batches(self, epoch):
        order = np.random.default_rng([self.seed, epoch]).permutation(50)
        return [torch.from_numpy(chunk) for chunk in order[:42].reshape(7, 6)]

    def losses(self, model, rows):
        return {"loss": (model(self.x[rows]) - self.y[rows]).square().mean()}
