"""Methods teach an encoder what they are about; training on random pairs, as long, does not.

Organs, for all methods that know them or compare views; scans, for those that tell scans apart and so unlearn organs.
MoCo and BYOL need longer than a test may take: `test_learners` sees them learn on toy pictures. A narrow network on
small phantoms for a few seconds sees a loss with a wrong sign, pairs or labels that are mixed up, and a collapse. It
tells nothing about which method is better; benchmarks/probe_methods.py and studies do.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from frugalseg.dataset.prepare import prepare
from frugalseg.engine.loop import seed_step
from frugalseg.models.blocks import ProjectionNet
from frugalseg.models.heads import linear_head
from frugalseg.models.unet import UNetEncoder
from frugalseg.options import PrepareOptions, PretrainOptions
from frugalseg.phantoms.cohort import LABELS, PhantomOptions, write_cohort
from frugalseg.pretraining import pair_rules
from frugalseg.pretraining import task as task_module
from frugalseg.pretraining.task import PretrainTask

STEPS = 40


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantoms")
    images, labels = write_cohort(root, 12, seed=0, options=PhantomOptions(shape=(48, 48, 24)))
    target = [f"{organ}={LABELS[organ]}" for organ in ("liver", "spleen", "left_kidney")]
    chosen = PrepareOptions(
        images=images,
        labels=labels,
        target=target,
        size=32,
        fractions=(0.1, 0.1),
        superpixels=True,
        segments=25,
        out=root / "store",
    )
    return prepare(chosen)


def narrow(backbone, norm, inputs, device):
    encoder = UNetEncoder(norm, 0.0, widths=(8, 16, 32), inputs=inputs)
    return ProjectionNet(encoder, linear_head(32, 256))


def trained(store, tmp_path, method):
    """A task after a short training."""
    torch.manual_seed(0)
    options = PretrainOptions(data=store.folder, out=tmp_path, method=method, steps=STEPS, lr=2e-3)
    task = PretrainTask(options, store, store.split(), torch.device("cpu"))
    task.model.train()
    step = 0
    while step < STEPS:
        batches = task.batches(step // task.steps_per_epoch)[: STEPS - step]
        for batch in task.stream(batches):
            seed_step(0, step)
            task.before_step(step)
            task.losses(task.model, batch)["loss"].backward()
            task.optimizer.step()
            task.optimizer.zero_grad()
            task.scheduler.step()
            step += 1
            task.after_step()
    return task


def found_first(task, rule):
    """Share of slices whose most similar other one is one that `rule` calls its positive."""
    rows = torch.from_numpy(task.rows[::4])
    task.model.network.eval()
    with torch.no_grad():
        z = F.normalize(task.model.network(task.source.gather(rows).images), dim=1)
    positives, compared = rule(task.metadata.select(rows), task.options)
    nearest = (z @ z.T).masked_fill(~compared, -2).argmax(dim=1)
    return positives[torch.arange(len(z)), nearest].float().mean().item()


@pytest.fixture(autouse=True)
def _narrow(monkeypatch):
    monkeypatch.setattr(task_module, "build_projection", narrow)


@pytest.fixture(scope="module")
def at_random(store, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(task_module, "build_projection", narrow)
        return trained(store, tmp_path_factory.mktemp("random"), "random-pairs")


@pytest.mark.parametrize(
    "method",
    [
        "polycl-o",
        "polycl-m",
        "polycl-o-batch",
        "polycl-m-batch",
        "simclr",
        "supcon",
        "pcl",
        "gcl",
        "supercl",
        "classify",
    ],
)
def test_the_probe_finds_organs_better_than_after_random_pairs(store, tmp_path, at_random, method):
    figures, control = (task.probe(task.model.network) for task in (trained(store, tmp_path, method), at_random))
    assert figures["probe_auroc"] > control["probe_auroc"] + 0.02
    assert figures["uniformity"] < -0.01


@pytest.mark.parametrize("method", ["polycl-s", "polycl-s-batch"])
def test_methods_on_scans_distinguish_scans(store, tmp_path, at_random, method):
    task = trained(store, tmp_path, method)
    assert found_first(task, pair_rules.scan_in_batch) > found_first(at_random, pair_rules.scan_in_batch) + 0.1
