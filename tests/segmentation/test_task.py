from __future__ import annotations

import pytest

from frugalseg.commands.finetune import finetune
from frugalseg.dataset.prepare import prepare
from frugalseg.options import FinetuneOptions, PrepareOptions
from frugalseg.segmentation.task import FinetuneTask
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
