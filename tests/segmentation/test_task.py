from __future__ import annotations

import pytest
import torch

from frugalseg.commands.finetune import finetune
from frugalseg.dataset.prepare import prepare
from frugalseg.engine.checkpoint import load_checkpoint
from frugalseg.options import FinetuneOptions, PrepareOptions
from frugalseg.segmentation.task import FinetuneTask
from tests.engine.replay import CallRecorder, CpuRecorder, train_as_on_a_gpu
from tests.scans import write_cohort


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    root = tmp_path_factory.mktemp("cohort")
    images, labels = write_cohort(root, 6)
    return prepare(PrepareOptions(images=images, labels=labels, target=["liver=6"], size=32, out=root / "store"))


@pytest.mark.parametrize(
    ("budget", "way"),
    [
        ("2 scans", {}),
        ("2 slices", {}),  # fewer than a batch
        ("2 scans", {"context": 1}),
        ("1 scan", {"preset": "paper"}),
        ("1 scan", {"semi": "mean-teacher"}),
        ("1 scan", {"preset": "best"}),
    ],
)
def test_the_graphable_module_is_called_in_every_step(store, tmp_path, monkeypatch, budget, way):
    """One call of the network a step, and always on one shape: else a recorded pass would be another."""
    learn, steps = FinetuneTask.losses, []

    def watched(self, model, batch):
        network, shape = self.graphable_module()
        calls = []
        handle = network.register_forward_pre_hook(lambda module, args: calls.append((module.training, *args)))
        losses = learn(self, model, batch)
        handle.remove()
        assert [(training, images.shape) for training, images in calls] == [(True, shape)]
        steps.append(shape)
        return losses

    monkeypatch.setattr(FinetuneTask, "losses", watched)
    chosen = {"data": store.folder, "out": tmp_path / "run", "device": "cpu", "precision": "32", "steps": 3}
    finetune(FinetuneOptions(**chosen, budget=budget, batch_size=6, **way))
    assert len(steps) == (6 if way.get("preset") == "best" else 3)


@pytest.mark.parametrize(
    "way",
    [{}, {"preset": "paper"}, {"preset": "supercl"}, {"semi": "mean-teacher"}, {"semi": "self-training"}],
    ids=str,
)
def test_replayed_steps_are_those_that_python_computes(store, tmp_path, monkeypatch, way):
    """Augmentation, losses, clipping, optimiser, schedule and averages: nothing is frozen, nothing read back."""
    chosen = {"data": store.folder, "device": "cpu", "precision": "32", "steps": 7, "budget": "2 scans"}
    found = {}
    for name, recorder in (("called", CallRecorder), ("replayed", CpuRecorder)):
        recorders = train_as_on_a_gpu(monkeypatch, recorder)
        run = finetune(FinetuneOptions(**chosen, out=tmp_path / name, batch_size=4, **way))
        found[name] = load_checkpoint(run.last)["model"]
    assert recorders
    assert all((one.recorded, one.replayed) == (1, 4) for one in recorders)
    for name, value in found["called"].items():
        assert torch.equal(found["replayed"][name], value), name


@pytest.mark.skipif(not torch.cuda.is_available(), reason="steps are captured on a GPU, and there is none")
@pytest.mark.parametrize("way", [{}, {"preset": "supercl"}, {"semi": "mean-teacher"}], ids=str)
def test_a_gpu_captures_whole_steps(store, tmp_path, capsys, way):
    chosen = {"data": store.folder, "device": "cuda", "steps": 7, "budget": "2 scans", "batch_size": 4}
    finetune(FinetuneOptions(**chosen, out=tmp_path / "run", **way))
    assert "CUDA graph" not in capsys.readouterr().err
