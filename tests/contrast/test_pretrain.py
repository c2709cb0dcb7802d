from __future__ import annotations

import numpy as np
import pytest
import torch

from frugalseg.contrast.pretrain import PretrainTask, training_rows
from frugalseg.dataset.prepare import prepare
from frugalseg.errors import SplitError
from frugalseg.options import PrepareOptions, PretrainOptions

from ..scans import write_cohort


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    root = tmp_path_factory.mktemp("cohort")
    images, labels = write_cohort(root, 9, labelled=6)
    return prepare(PrepareOptions(images=images, labels=labels, target=["liver=6"], size=32, out=root / "store"))


def options(store, tmp_path, **changes):
    return PretrainOptions(**{"data": store.folder, "out": tmp_path / "run", "batch_size": 8} | changes)


def test_only_training_patients_are_drawn_and_organ_methods_use_labelled_scans(store, tmp_path):
    split = store.split()
    everyone = store.slices.loc[training_rows(store, split, options(store, tmp_path, method="polycl-s"))]
    assert set(everyone["patient"]) == set(split.train)
    with pytest.warns(UserWarning, match="3 unlabelled scans are left out"):
        rows = training_rows(store, split, options(store, tmp_path, method="polycl-m"))
    assert set(store.slices.loc[rows, "patient"]) == {p for p in split.train if p < "scan_06"}


def test_organ_methods_without_any_label_are_refused(store, tmp_path):
    split = store.split()
    unlabelled = type(split)(tuple(p for p in split.train if p >= "scan_06"), split.validation, split.test)
    with pytest.raises(SplitError, match="polycl-o needs to know"):
        training_rows(store, unlabelled, options(store, tmp_path, method="polycl-o"))


def test_batches_are_triplets_of_the_rule_stacked_for_the_loss(store, tmp_path):
    task = PretrainTask(options(store, tmp_path, method="polycl-m"), store, store.split(), torch.device("cpu"))
    batches = task.batches(0)
    assert all(batch.shape == (8, 3) for batch in batches)
    table = store.slices
    for anchor, positive, negative in torch.cat(batches).tolist():
        assert table.at[anchor, "case"] == table.at[positive, "case"] == table.at[negative, "case"]
        assert table.at[anchor, "has_liver"] == table.at[positive, "has_liver"] != table.at[negative, "has_liver"]
    first = next(iter(task.stream(batches[:1])))
    stacked = np.concatenate([batches[0][:, i].numpy() for i in range(3)])
    assert np.array_equal(first.images[:, 0].numpy(), store.images[stacked].astype(np.float32))


def test_pairs_are_drawn_anew_every_epoch(store, tmp_path):
    task = PretrainTask(options(store, tmp_path, method="polycl-s"), store, store.split(), torch.device("cpu"))
    partner = [{a: p for a, p, _ in torch.cat(task.batches(epoch)).tolist()} for epoch in (0, 1)]
    both = partner[0].keys() & partner[1].keys()
    assert np.mean([partner[0][a] != partner[1][a] for a in both]) > 0.5


def test_embeddings_learn_who_belongs_together(store, tmp_path):
    """After a few steps anchors are nearer to their positives than to their negatives, on fresh pairs."""
    torch.manual_seed(0)
    chosen = options(store, tmp_path, method="polycl-m", norm="batch", lr=1e-3)
    task = PretrainTask(chosen, store, store.split(), torch.device("cpu"))
    for epoch in range(4):
        for batch in task.stream(task.batches(epoch)):
            task.losses(task.model, batch)["loss"].backward()
            task.optimizer.step()
            task.optimizer.zero_grad()
    with torch.no_grad():  # in training mode: so few steps have not moved the running statistics yet
        fresh = [task.losses(task.model, batch)["loss"].item() for batch in task.stream(task.batches(99))]
    assert np.mean(fresh) < 0.35  # log 2 = 0.69 is chance
