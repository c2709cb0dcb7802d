from __future__ import annotations

import os
import signal
from contextlib import nullcontext

import pytest
import torch
from torch import nn

from frugalseg.engine import loop
from frugalseg.engine.checkpoint import load_checkpoint
from frugalseg.engine.loop import seed_step
from frugalseg.engine.run import read_length
from frugalseg.engine.task import steps_and_interval
from frugalseg.errors import InterruptedRunError, RunError
from tests.engine.toy import Killed, ToyTask, run_toy


def weights(task):
    return {name: tensor.clone() for name, tensor in task.model.state_dict().items()}


def assert_equal(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("killed_after", [0, 1, 6, 7, 9, 10, 23, 39])
@pytest.mark.parametrize("minutes", [1e9, 1e-9], ids=["checkpoints_at_reports", "at_every_step"])
def test_killed_and_resumed_equals_unbroken_bit_for_bit(tmp_path, killed_after, minutes):
    unbroken = ToyTask()
    whole = run_toy(tmp_path / "whole", unbroken)
    with pytest.raises(Killed):
        run_toy(tmp_path / "broken", ToyTask(stop_at=killed_after), minutes=minutes)
    resumed = ToyTask(seed=0)
    torch.manual_seed(12345)  # what the generators held before must not matter
    broken = run_toy(tmp_path / "broken", resumed, resume="yes", minutes=minutes)
    assert_equal(weights(unbroken), weights(resumed))
    timeless = [
        [
            {k: v for k, v in record.items() if k not in {"seconds", "samples_per_s", "wait"}}
            for record in run.read_records()
        ]
        for run in (whole, broken)
    ]
    assert timeless[0] == timeless[1]
    assert load_checkpoint(whole.best)["step"] == load_checkpoint(broken.best)["step"] == 20


def test_killed_between_checkpoint_and_best_keeps_the_best(tmp_path, monkeypatch):
    real = loop.link_as_best

    def dies_at_twenty(last, best):
        if load_checkpoint(last)["step"] == 20:
            raise Killed
        real(last, best)

    monkeypatch.setattr(loop, "link_as_best", dies_at_twenty)
    with pytest.raises(Killed):
        run_toy(tmp_path / "run", ToyTask())
    monkeypatch.setattr(loop, "link_as_best", real)
    run = run_toy(tmp_path / "run", ToyTask(), resume="yes")
    assert load_checkpoint(run.best)["step"] == 20


def test_the_length_is_written_before_the_first_step(tmp_path):
    assert read_length(tmp_path / "run") is None
    with pytest.raises(Killed):
        run_toy(tmp_path / "run", ToyTask(stop_at=0))
    assert read_length(tmp_path / "run") == 40


def test_of_equal_scores_the_later_is_best(tmp_path):
    class Level(ToyTask):
        def validate(self):
            return {"score": 0.0}

    assert load_checkpoint(run_toy(tmp_path / "run", Level()).best)["step"] == 40


def test_resumption_does_not_repeat_done_steps(tmp_path):
    with pytest.raises(Killed):
        run_toy(tmp_path / "run", ToyTask(stop_at=25))
    resumed = ToyTask()
    run_toy(tmp_path / "run", resumed, resume="yes")
    assert resumed.steps == 40 - 20  # the last checkpoint was that of the report at step 20


def test_every_epoch_shows_every_sample_once_in_another_order():
    task = ToyTask()
    epochs = [[row for batch in task.batches(e) for row in batch.tolist()] for e in range(3)]
    assert all(len(set(epoch)) == len(epoch) == 49 for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert epochs[1] == [row for batch in task.batches(1) for row in batch.tolist()]


def test_learning_rate_moves_at_every_step_and_restarts(tmp_path):
    task = ToyTask()
    run_toy(tmp_path / "run", task)
    assert all(a > b for a, b in zip(task.rates[:14], task.rates[1:14], strict=False))
    assert task.rates[14] == task.rates[28] == task.rates[0] == 0.05


def test_ctrl_c_writes_a_checkpoint_and_resumes_exactly(tmp_path):
    class Interrupting(ToyTask):
        def losses(self, model, rows):
            if self.steps == 12:
                os.kill(os.getpid(), signal.SIGINT)
            return super().losses(model, rows)

    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(InterruptedRunError, match="after step 13 of 40"):
        run_toy(tmp_path / "run", Interrupting())
    assert signal.getsignal(signal.SIGINT) is handler
    assert load_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")["step"] == 13
    resumed, unbroken = ToyTask(), ToyTask()
    run_toy(tmp_path / "run", resumed, resume="yes")
    run_toy(tmp_path / "whole", unbroken)
    assert_equal(weights(resumed), weights(unbroken))


def stopped_by(*signals):
    """A training whose process receives these signals in its sixth step."""

    class Stopped(ToyTask):
        def losses(self, model, rows):
            losses = super().losses(model, rows)
            if self.steps == 6:
                for number in signals:
                    os.kill(os.getpid(), number)
            return losses

    return Stopped()


def test_sigterm_may_come_twice(tmp_path):
    """From a batch system that signals every process, and from the study that runs this one."""
    with pytest.raises(InterruptedRunError, match="stopped by SIGTERM after step 6 of 40"):
        run_toy(tmp_path / "run", stopped_by(signal.SIGTERM, signal.SIGTERM))
    assert load_checkpoint(tmp_path / "run/checkpoints/last.ckpt")["step"] == 6


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_after_the_first_signal_stops_at_once(tmp_path, first):
    with pytest.raises(KeyboardInterrupt):
        run_toy(tmp_path / "run", stopped_by(first, signal.SIGINT))


class _Device:
    def __init__(self, kind, processes):
        self.device, self.world_size, self.global_rank = torch.device(kind), processes, processes - 1

    def autocast(self):
        return nullcontext()


NETWORK = nn.Identity()


@pytest.mark.parametrize(
    ("kind", "processes", "shape", "captured"),
    [
        ("cuda", 1, (3, 1, 8, 8), (3, 1, 8, 8)),
        ("cuda", 2, (3, 1, 8, 8), (1, 1, 8, 8)),  # of three slices the second of two processes has one
        ("cpu", 1, (3, 1, 8, 8), None),
        ("cuda", 1, None, None),
    ],
)
def test_passes_of_a_share_are_captured_on_gpus_only(tmp_path, monkeypatch, capsys, kind, processes, shape, captured):
    asked = []
    monkeypatch.setattr(loop.cuda_graphs, "capture", lambda *given: asked.append(given))
    trainer = object.__new__(loop._Trainer)
    trainer.task, trainer.fabric = ToyTask(), _Device(kind, processes)
    trainer.task.graphable_module = lambda: shape and (NETWORK, shape)
    trainer._capture_passes()
    assert asked == ([(NETWORK, captured)] if captured else [])

    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(loop.cuda_graphs, "capture", full)
    trainer._capture_passes()
    assert ("too little GPU memory" in capsys.readouterr().err) == bool(captured)


def test_best_checkpoint_is_the_highest_score_not_the_last(tmp_path):
    run = run_toy(tmp_path / "run", ToyTask(peak=20))
    assert load_checkpoint(run.best)["step"] == 20
    assert load_checkpoint(run.last)["step"] == 40
    best = max(run.read_records(), key=lambda r: r["score"])
    assert best["step"] == 20


def test_loss_that_is_not_finite_stops_the_run(tmp_path):
    with pytest.raises(RunError, match="the loss is nan at step 10"):
        run_toy(tmp_path / "run", ToyTask(fail_at=4))


def test_reports_hold_means_speed_and_waiting(tmp_path):
    run = run_toy(tmp_path / "run", ToyTask())
    records = run.read_records()
    assert [r["step"] for r in records] == [10, 20, 30, 40]
    for record in records:
        assert record["half"] == pytest.approx(record["loss"] / 2, rel=1e-6)
        assert record["samples_per_s"] > 0
        assert 0 <= record["wait"] <= 1
    assert records[-1]["loss"] < records[0]["loss"]


def test_every_step_and_process_has_its_own_seed():
    def drawn(*key):
        seed_step(*key)
        return torch.rand(3)

    assert torch.equal(drawn(0, 5), drawn(0, 5))
    others = [drawn(0, 5), drawn(0, 6), drawn(1, 5), drawn(0, 5, 1)]
    assert len({tuple(o.tolist()) for o in others}) == 4


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"steps": 500, "epochs": None, "reports": 20}, (500, 25)),
        ({"steps": 500, "epochs": None, "reports": None}, (500, 10)),
        ({"steps": None, "epochs": 100, "reports": 20}, (1000, 50)),
        ({"steps": None, "epochs": None, "reports": None}, (10, 10)),
        ({"steps": 630, "epochs": None, "reports": 20}, (630, 30)),
        ({"steps": 3, "epochs": None, "reports": 20}, (3, 1)),
    ],
)
def test_steps_and_interval(options, expected):
    steps_per_epoch = 10 if options["reports"] is None or options["steps"] != 500 else 30
    assert steps_and_interval(steps_per_epoch, **options) == expected


def test_the_bar_names_the_two_lowest_of_several_organs():
    figures = {"dice_liver": 0.9, "dice_veins": 0.0, "dice_gland": 0.3, "dice": 0.4, "score": 0.4}
    assert loop._format_validation(figures) == ["validation Dice 0.400", "lowest veins 0.00, gland 0.30"]
    assert loop._format_validation({"dice_liver": 0.9, "dice": 0.9, "score": 0.9}) == ["validation Dice 0.900"]
    assert loop._format_validation({}) == []
