from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from frugalseg.dataset.auroc import auroc
from frugalseg.dataset.source import SliceSource
from frugalseg.dataset.store import SliceStore, presence_column
from frugalseg.models.blocks import ProjectionNet
from frugalseg.models.registry import build_projection
from frugalseg.pretraining.embedding_metrics import alignment, embedding_rank, is_collapsed, uniformity
from frugalseg.pretraining.probe import MAX_LABELLED, MAX_PAIRS, SLICES_AT_ONCE, Probe, linear_probe_auroc
from frugalseg.records.networks import ProbeRecord
from tests.stores import store_record

CPU = torch.device("cpu")
ORGANS = {"liver": (6,), "spleen": (1,)}


class Picked(nn.Module):
    """An encoder that embeds a slice as its first four pixels, shifted, so that tests choose the embeddings."""

    stride, embedding_dim = 1, 4

    def __init__(self, shift: float = 0.0) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.tensor(shift))

    def forward(self, x):
        return [x]

    def embed(self, features):
        return features[0].flatten(1)[:, :4] + self.shift


def picked(shift=0.0):
    return ProjectionNet(Picked(shift), nn.Linear(4, 2))


def make_store(folder, patients=8, slices=30, labelled=8, seed=0):
    """Scans whose upper half holds the liver, which raises the first pixel; a spleen in the first patient only."""
    rng = np.random.default_rng(seed)
    z = np.tile(np.arange(slices), patients)
    patient = np.repeat(np.arange(patients), slices)
    liver = z >= slices // 2
    images = rng.uniform(0, 0.4, (len(z), 8, 8))
    images[liver, 0, 0] += 0.5
    np.save(folder / "images.npy", images.astype(np.float16))
    has_mask = patient < labelled
    table = pd.DataFrame(
        {
            "case": [f"scan_{p}" for p in patient],
            "patient": [f"patient_{p}" for p in patient],
            "z": z,
            "labelled": has_mask,
            presence_column("liver"): liver & has_mask,
            presence_column("spleen"): (patient == 0) & (z < 5) & has_mask,
        }
    )
    return SliceStore(folder, store_record(ORGANS, size=8), table)


def make_probe(store, rows=None, seed=0):
    rows = np.arange(len(store.slices)) if rows is None else rows
    return Probe(store, rows, SliceSource(store, CPU, with_labels=False), seed)


def test_an_embedding_that_shows_the_organ_scores_and_one_that_does_not_is_at_chance(tmp_path):
    probe = make_probe(make_store(tmp_path))
    assert probe(picked())["probe_auroc"] > 0.99
    blind = picked()
    blind.encoder.embed = lambda features: features[0].flatten(1)[:, 1:5]
    assert probe(blind)["probe_auroc"] == pytest.approx(0.5, abs=0.15)


def test_only_organs_that_vary_in_both_halves_are_scored_and_the_record_counts_the_slices(tmp_path):
    probe = make_probe(make_store(tmp_path, labelled=5))
    record = probe.record
    assert record.organs == ("liver",)  # one patient has a spleen
    assert record.labelled_scans == 5
    assert record.labelled_slices == MAX_LABELLED
    assert record.labelled_slices <= record.slices <= MAX_LABELLED + 2 * MAX_PAIRS


def test_without_labels_the_geometry_remains(tmp_path):
    for name, store in (("none", 0), ("one", 1)):  # one patient has no other half
        folder = tmp_path / name
        folder.mkdir()
        probe = make_probe(make_store(folder, labelled=store))
        assert probe.record == ProbeRecord(probe.record.slices, 0, 0, ())
        assert probe(picked()).keys() == {"alignment", "uniformity", "embedding_rank"}


def test_only_the_given_rows_are_looked_at(tmp_path):
    store = make_store(tmp_path)
    rows = np.flatnonzero(store.slices["patient"].isin(["patient_2", "patient_5"]) & (store.slices["z"] % 2 == 0))
    asked = []
    probe = make_probe(store, rows)
    stream = probe.source.stream
    probe.source.stream = lambda batches: stream(asked.extend(batches) or batches)
    probe(picked())
    assert set(torch.cat(asked).tolist()) <= set(rows.tolist())
    assert len(torch.cat(asked)) == len(rows)


def test_slices_are_embedded_in_chunks_of_equal_size(tmp_path):
    """A last chunk of one slice would have no statistics that batch norm could use."""
    asked = []
    probe = make_probe(make_store(tmp_path, patients=1, slices=SLICES_AT_ONCE + 1))
    stream = probe.source.stream
    probe.source.stream = lambda batches: stream(asked.extend(batches) or batches)
    probe(picked())
    assert sorted(len(chunk) for chunk in asked) == [SLICES_AT_ONCE // 2, SLICES_AT_ONCE // 2 + 1]


def test_alignment_is_that_of_neighbours(tmp_path):
    store = make_store(tmp_path)
    pixels = store.images.reshape(len(store.images), -1)[:, :4].astype(np.float64)
    unit = pixels / np.linalg.norm(pixels, axis=1, keepdims=True)
    rows = np.array([3, 5, 10, 200, 201, 40])  # neighbours among those given: 3-5, 5-10, 200-201; 40 stands alone
    expected = np.mean([((unit[a] - unit[b]) ** 2).sum() for a, b in ((3, 5), (5, 10), (200, 201))])
    assert make_probe(store, rows)(picked())["alignment"] == pytest.approx(expected, rel=1e-5)
    alone = make_probe(store, np.arange(0, 240, 30))(picked())
    assert "alignment" not in alone
    assert alone["uniformity"] < 0


def test_a_collapsed_encoder_is_detected_and_reported_once(tmp_path):
    probe = make_probe(make_store(tmp_path))
    same = picked(shift=1e4)  # all embeddings equal but for some 0.001%
    with pytest.warns(UserWarning, match="collapsed") as told:
        figures = [probe(same), probe(same)][1]
    assert len(told) == 1
    assert is_collapsed(figures)
    assert figures["embedding_rank"] == pytest.approx(1, abs=0.01)
    assert figures["uniformity"] == pytest.approx(0, abs=1e-3)
    assert not is_collapsed(probe(picked()))


def test_embeddings_exactly_equal_are_at_chance(tmp_path):
    silent = picked()
    silent.encoder.embed = lambda features: torch.ones(len(features[0]), 4)
    with pytest.warns(UserWarning, match="collapsed"):
        figures = make_probe(make_store(tmp_path))(silent)
    expected = {"uniformity": 0.0, "embedding_rank": 1.0, "alignment": 0.0, "probe_auroc": 0.5}
    assert figures == pytest.approx(expected, abs=1e-9)


def test_embeddings_that_are_not_finite_are_reported_and_give_no_figures(tmp_path):
    with pytest.warns(UserWarning, match="not finite"):
        assert make_probe(make_store(tmp_path))(picked(shift=float("nan"))) == {}


def test_the_choice_is_a_function_of_the_seed(tmp_path):
    store = make_store(tmp_path, slices=60)
    one, again, other = (make_probe(store, seed=seed)(picked()) for seed in (1, 1, 2))
    assert one == again
    assert one["alignment"] != other["alignment"]


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_a_fresh_network_is_healthy_and_left_as_it_was(tmp_path, norm):
    torch.manual_seed(0)
    model = build_projection("unet", norm)
    model.train()
    model.head.eval()
    modes = [m.training for m in model.modules()]
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    random_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    probe = make_probe(make_store(tmp_path, slices=6))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures = probe(model)
        assert probe(model) == figures
    assert all(np.isfinite(value) for value in figures.values())
    assert [m.training for m in model.modules()] == modes
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)
    assert all(m.track_running_stats for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    assert all(p.grad is None for p in model.parameters())


def test_a_mode_is_restored_after_a_failure(tmp_path):
    model = picked()
    model.encoder.embed = lambda features: 1 / 0
    with pytest.raises(ZeroDivisionError):
        make_probe(make_store(tmp_path))(model)
    assert all(m.training for m in model.modules())


def test_figures_of_known_embeddings():
    basis = np.eye(3, dtype=np.float32)
    assert alignment(basis, 5 * basis) == pytest.approx(0)  # length does not count
    assert alignment(basis, -basis) == pytest.approx(4)
    assert uniformity(basis) == pytest.approx(-4)  # all distances √2
    assert uniformity(np.array([[1.0, 0], [1, 0], [0, 1]])) == pytest.approx(np.log((1 + 2 * np.exp(-4)) / 3))
    assert embedding_rank(basis) == pytest.approx(3)
    assert embedding_rank(np.ones((10, 5))) == pytest.approx(1)
    assert embedding_rank(np.zeros((10, 5))) == 0
    assert embedding_rank(np.diag([3.0, 1.0])) == pytest.approx(np.exp(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25))))
    assert not is_collapsed({})


def test_auroc_counts_pairs():
    rng = np.random.default_rng(0)
    scores, truth = rng.integers(0, 6, 40).astype(float), rng.random(40) < 0.3
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[truth] for b in scores[~truth]]
    assert auroc(scores, truth) == pytest.approx(np.mean(pairs))
    assert auroc(scores, truth) == pytest.approx(1 - auroc(-scores, truth))


def test_the_probe_never_scores_what_it_was_fitted_on():
    """More directions than slices fit any labels; on the other half labels by lot stay at chance."""
    rng = np.random.default_rng(0)
    areas = []
    for _ in range(20):
        present = rng.random((80, 1)) < 0.5
        areas.append(linear_probe_auroc(rng.normal(size=(80, 256)), present, np.arange(80) < 40))
    assert np.mean(areas) == pytest.approx(0.5, abs=0.06)
