"""Two processes compare the whole batch: loss and gradients are those of one process."""

from __future__ import annotations

import pytest
import torch

from frugalseg.pretraining.gather import all_gather
from tests.pretraining.workers import METHODS_TO_SHARE, learn
from tests.processes import run_twice

WORKER = """
from tests.pretraining.workers import learn_all
learn_all(Path(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """What each of two processes saw: method → losses, gradients and queue of one step after the other."""
    out = tmp_path_factory.mktemp("two")
    run_twice(out, WORKER, out)
    return [torch.load(out / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.parametrize("method", METHODS_TO_SHARE)
def test_two_processes_give_the_loss_and_gradients_of_one(shared, method):
    one = learn(method)
    for step, whole in enumerate(one):
        halves = [rank[method][step] for rank in shared]
        mean_loss = (halves[0]["loss"] + halves[1]["loss"]) / 2
        assert torch.allclose(mean_loss, whole["loss"], atol=1e-5), step
        for half in halves:
            assert half["gradients"].keys() == whole["gradients"].keys()
            for name, gradient in whole["gradients"].items():
                assert gradient.abs().max() > 0 or (method, step) == ("moco", 0)
                assert torch.allclose(half["gradients"][name], gradient, atol=1e-5), (step, name)


def test_the_queue_is_one_and_the_same_and_holds_every_processes_keys(shared):
    first, second = (rank["moco"][-1] for rank in shared)
    alone = learn("moco")[-1]
    assert torch.equal(first["queue"], second["queue"])
    assert torch.equal(first["queue_rows"], second["queue_rows"])
    assert sorted(first["queue_rows"].tolist()) == sorted(alone["queue_rows"].tolist())


def test_negatives_come_from_the_other_process(shared):
    """With its own half alone a process would see another loss."""
    assert torch.allclose(shared[0]["simclr"][0]["loss"], shared[1]["simclr"][0]["loss"])
    assert not torch.allclose(learn("simclr", half=0)[0]["loss"], shared[0]["simclr"][0]["loss"], atol=1e-3)


def test_without_other_processes_nothing_is_copied():
    tensor = torch.randn(3, requires_grad=True)
    assert all_gather(tensor) is tensor
