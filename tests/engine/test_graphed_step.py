"""Whole steps that are replayed; what a GPU alone can show is in test_graphs.py."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import pytest
import torch
from torch import Tensor

from frugalseg.engine import loop
from frugalseg.engine.checkpoint import load_checkpoint
from frugalseg.engine.cuda_graphs import WARM_UP, GpuRecorder, GraphedStep
from frugalseg.engine.optimization import one_cycle
from frugalseg.engine.recordable_optimizer import recordable_steps
from tests.engine.replay import CpuRecorder, train_as_on_a_gpu
from tests.engine.toy import Killed, ToyTask, run_toy


@dataclass(frozen=True)
class Pair:
    x: Tensor
    y: Tensor | None = None


class GraphableToy(ToyTask):
    """The toy with batches that hold tensors, and a term whose weight changes from step to step."""

    graphable = True

    def __init__(self, *given, reads_back=False, optimizer=None, **more):
        super().__init__(*given, **more)
        if optimizer is not None:
            self.optimizer = optimizer(self.model.parameters())
            self.scheduler = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(self.optimizer, T_0=14)
        self.weight, self.reads_back = torch.zeros(()), reads_back
        self.model.register_buffer("moved", torch.zeros(()))

    def stream(self, batches):
        for rows in batches:
            yield Pair(self.x[rows], self.y[rows])

    def before_step(self, step):
        self.weight.fill_(step / 10)

    def losses(self, model, batch):
        self.steps += 1
        if self.stop_at is not None and self.steps > self.stop_at:
            raise Killed
        output = model(batch.x + 0.01 * torch.randn(batch.x.shape))
        if self.reads_back:
            float(output.detach().sum())
        loss = (output - batch.y).square().mean() + self.weight * output.square().mean()
        return {"loss": loss, "half": loss / 2}

    def after_step(self):
        self.model.moved.add_(self.weight)


@pytest.fixture
def recorders(monkeypatch):
    return train_as_on_a_gpu(monkeypatch)


def assert_same_training(one, other):
    first, second = load_checkpoint(one.last), load_checkpoint(other.last)
    assert first["step"] == second["step"]
    for name, value in first["model"].items():
        torch.testing.assert_close(value, second["model"][name], rtol=1e-3, atol=1e-5)
    for mine, its in zip(one.read_records(), other.read_records(), strict=True):
        for name in ("step", "loss", "half", "lr"):
            assert mine[name] == pytest.approx(its[name], rel=1e-3)


OPTIMIZERS = {
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=0.05),
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=0.05),
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.01, momentum=0.9, weight_decay=1e-3),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_training_of_replayed_steps_is_the_plain_one(tmp_path, recorders, monkeypatch, optimizer):
    """Dropout, noise, learning rates, a weight that changes, what follows a step: none is frozen in the recording."""
    replayed = run_toy(tmp_path / "replayed", GraphableToy(optimizer=OPTIMIZERS[optimizer]))
    assert [(one.recorded, one.replayed) for one in recorders] == [(1, 40 - WARM_UP)]
    monkeypatch.setattr(loop._Trainer, "_may_capture", lambda self: False)
    plain = run_toy(tmp_path / "plain", GraphableToy(optimizer=OPTIMIZERS[optimizer]))
    assert len(recorders) == 1
    assert_same_training(replayed, plain)


def test_a_resumed_training_of_replayed_steps_is_the_unbroken_one(tmp_path, recorders, monkeypatch):
    """Also where a run that was begun with a graph is continued without one."""
    whole = run_toy(tmp_path / "whole", GraphableToy())
    for name, with_graph in (("graph", True), ("without", False)):
        # Python sees no more steps than are recorded: the run is killed in the report at step 20.
        task = GraphableToy()
        monkeypatch.setattr(task, "validate", lambda task=task: _killed_at(20, task))
        with pytest.raises(Killed):
            run_toy(tmp_path / name, task)
        monkeypatch.setattr(loop._Trainer, "_may_capture", lambda self, with_graph=with_graph: with_graph)
        broken = run_toy(tmp_path / name, GraphableToy(), resume="yes")
        assert_same_training(whole, broken)
        monkeypatch.setattr(loop._Trainer, "_may_capture", lambda self: True)


def _killed_at(step, task):
    if task.scheduler.last_epoch == step:
        raise Killed
    return ToyTask.validate(task)


def test_a_step_that_cannot_be_captured_is_computed_and_said_once(tmp_path, recorders, monkeypatch, capsys):
    found = run_toy(tmp_path / "run", GraphableToy(reads_back=True))
    assert capsys.readouterr().err.count("cannot be captured as a CUDA graph") == 1
    assert [(one.recorded, one.replayed) for one in recorders] == [(0, 0)]
    monkeypatch.setattr(loop._Trainer, "_may_capture", lambda self: False)
    assert_same_training(found, run_toy(tmp_path / "plain", GraphableToy()))


def test_full_memory_is_said_once_and_steps_are_computed(tmp_path, recorders, monkeypatch, capsys):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(CpuRecorder, "record", full)
    found = run_toy(tmp_path / "run", GraphableToy())
    assert capsys.readouterr().err.count("too little GPU memory for CUDA graphs") == 1
    monkeypatch.setattr(loop._Trainer, "_may_capture", lambda self: False)
    assert_same_training(found, run_toy(tmp_path / "plain", GraphableToy()))


def test_a_batch_of_another_shape_is_computed_without_the_recording():
    recorder = CpuRecorder()

    def compute(pair):
        return {"sum": pair.x.sum()}

    step = GraphedStep(compute, compute, lambda: None, recorder, pytest.fail)
    for value in range(8):
        size = 3 if value == 6 else 4
        assert step(Pair(torch.full((size,), float(value))))["sum"] == size * value
    assert recorder.replayed == 8 - WARM_UP - 1


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_recordable_steps_are_pytorchs(optimizer):
    """Under a schedule that changes learning rate and momentum, with a group that gets no gradient."""
    torch.manual_seed(0)
    start = torch.randn(5, 3)
    weights = [[torch.nn.Parameter(start.clone()), torch.nn.Parameter(torch.ones(2))] for _ in range(2)]
    made = [OPTIMIZERS[optimizer]([{"params": [one]} for one in both]) for both in weights]
    schedules = [one_cycle(one, 30) for one in made]
    recordable = recordable_steps(made[1], torch.device("cpu"))
    for i in range(30):
        gradient = torch.randn(5, 3)
        for (weight, _), one in zip(weights, made, strict=True):
            weight.grad = gradient + weight.detach()
            if one is made[1] and i not in (0, 7, 8):  # they may take turns
                recordable.prepare()
                recordable.step()
            else:
                one.step()
        for schedule in schedules:
            schedule.step()
        torch.testing.assert_close(weights[1][0], weights[0][0], rtol=1e-4, atol=1e-5)
    assert (weights[0][0] - start).abs().min() > 1e-3
    for name, value in made[0].state[weights[0][0]].items():
        torch.testing.assert_close(made[1].state[weights[1][0]][name], value, rtol=1e-4, atol=1e-5)


def test_optimisers_without_a_recordable_form():
    weight = [torch.nn.Parameter(torch.ones(2))]
    for one in (
        torch.optim.Adam(weight, amsgrad=True),
        torch.optim.SGD(weight, lr=0.1),
        torch.optim.SGD(weight, lr=0.1, momentum=0.9, nesterov=True),
        torch.optim.Adagrad(weight),
    ):
        assert recordable_steps(one, torch.device("cpu")) is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU, and there is none")
class TestOnGpu:
    @staticmethod
    def steps(graphed, reads_back=False):
        """Losses and weights of ten steps with dropout, seeded each."""
        device = torch.device("cuda", 0)
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.Dropout(0.3), torch.nn.Linear(16, 1)).to(device)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
        steps = recordable_steps(optimizer, device)

        def compute(pair, optimizer_step=optimizer.step):
            loss = (model(pair.x + 0.1 * torch.randn_like(pair.x)) - pair.y).square().mean()
            if reads_back:
                loss.item()
            loss.backward()
            optimizer_step()
            optimizer.zero_grad()
            return {"loss": loss.detach()}

        said = []

        def failed(error):
            said.append(error)
            optimizer.zero_grad()
            torch.manual_seed(WARM_UP)

        recordable = partial(compute, optimizer_step=steps.step)
        graphed_step = GraphedStep(compute, recordable, steps.prepare, GpuRecorder(device), failed)
        step = graphed_step if graphed else compute
        x = torch.randn(10, 8, 4).to(device)
        losses = []
        for i in range(10):
            torch.manual_seed(i)
            optimizer.param_groups[0]["lr"] = 0.05 / (i + 1)
            losses.append(float(step(Pair(x[i], x[i].sum(dim=1, keepdim=True)))["loss"]))
        return losses, [p.detach().clone() for p in model.parameters()], said

    def test_replayed_steps_are_the_plain_ones(self):
        (losses, weights, said), (plain, its, _) = self.steps(True), self.steps(False)
        assert not said
        assert losses == pytest.approx(plain, rel=1e-3)
        for one, other in zip(weights, its, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)

    def test_after_a_failed_capture_steps_and_random_numbers_go_on(self):
        (losses, _, said), (plain, _, _) = self.steps(True, reads_back=True), self.steps(False)
        assert len(said) == 1
        assert losses == pytest.approx(plain, rel=1e-3)
