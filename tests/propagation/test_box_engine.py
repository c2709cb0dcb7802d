"""Propagating objects from slice to slice with a model that takes boxes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from frugalseg.imaging.intensity import IntensityScale
from frugalseg.imaging.volume import Volume
from frugalseg.options import PropagateOptions
from frugalseg.promptable.batches import Batches
from frugalseg.promptable.embeddings import Embedder, ScanSlices
from frugalseg.propagation import box_engine as project
from frugalseg.propagation.box_engine import BoxPropagator
from frugalseg.propagation.passes import SliceState
from frugalseg.refinement.refiner import overlap
from tests.promptable.fake import Bright

DEPTH = 16


def slices_of(draw, depth=DEPTH, spacing=(2.0, 2.0, 3.0), noise=2.0):
    """A scan whose slice z is `draw(z)` (64, 64) in HU, rows first, with some noise, and what it shows."""
    rng = np.random.default_rng(0)
    stack = np.stack([draw(z) for z in range(depth)]) + rng.normal(0, noise, (depth, 64, 64))
    volume = Volume(
        stack.transpose(2, 1, 0).round().astype(np.int16), np.diag([-spacing[0], -spacing[1], spacing[2], 1])
    )
    return ScanSlices.of(volume, IntensityScale("ct", 0, 100))


def disc(row, column, radius):
    rows, columns = np.indices((64, 64))
    return np.hypot(rows - row, columns - column) < radius


def projector(scan, start, *masks, model=None, **more):
    model = model or Bright()
    options = PropagateOptions(images="i", annotations="a", out="o", **more)
    embedder = Embedder(model, scan, None, Batches(4, "slices"))
    return BoxPropagator(model, scan, embedder, Batches(4, "boxes"), options, start, np.stack(masks))


def moving(z):
    """A disc that moves by 1.5 pixels per slice, and grows."""
    return disc(24 + z, 20 + 1.5 * z, 7 + 0.4 * z)


def test_an_organ_that_moves_and_swells_is_propagated():
    scan = slices_of(lambda z: np.where(moving(z), 80, 20))
    found = {c.z: c.masks()[0] for c in projector(scan, 0, moving(0)).propagate(range(1, DEPTH))}
    assert list(found) == list(range(1, DEPTH))
    assert min(overlap(found[z], moving(z)) for z in found) > 0.9
    assert overlap(moving(0), moving(DEPTH - 1)) < 0.05
    # The other way round too.
    back = {c.z: c.masks()[0] for c in projector(scan, 15, moving(15)).propagate(range(14, -1, -1))}
    assert min(overlap(back[z], moving(z)) for z in back) > 0.9


def test_the_box_is_around_where_the_organ_is_expected_with_a_margin_in_mm():
    # By 3 pixels a slice: without following, the box of the slice before would cut the organ.
    scan = slices_of(lambda z: np.where(disc(32, 20 + 3 * z, 8), 80, 20), depth=4)
    model = Bright()
    list(projector(scan, 0, disc(32, 20, 8), model=model, margin_mm=4.0).propagate([1]))
    x0, _, x1, _ = model.boxes[-1]
    truth = np.flatnonzero(disc(32, 23, 8).any(axis=0))
    assert x0 == pytest.approx(truth[0] - 2, abs=1.1)
    assert x1 == pytest.approx(truth[-1] + 1 + 2, abs=1.1)


def test_a_model_that_fails_on_the_annotated_slice_has_no_weight():
    scan = slices_of(lambda z: np.where(disc(32, 32, 10), 80, 20), depth=8)

    class Wrong(Bright):
        def decode(self, embedding, prompts, several=False):
            found = super().decode(embedding, prompts, several)
            return type(found)(-found.logits, found.scores)

    wrong = projector(scan, 0, disc(32, 32, 10), model=Wrong())
    assert wrong.calibration.model_weight.tolist() == [0]
    assert all(overlap(c.masks()[0], disc(32, 32, 10)) > 0.95 for c in wrong.propagate(range(1, 8)))
    assert projector(scan, 0, disc(32, 32, 10)).calibration.model_weight.tolist() == [1]


def test_the_model_moves_the_border_where_nothing_else_tells():
    """Every slice has a uniform grey value; only the model knows how the organ grows."""
    scan = slices_of(lambda z: np.full((64, 64), 10.0 + 5 * z), depth=8, noise=0.0)

    class Knowing(Bright):
        def decode(self, embedding, prompts, several=False):
            found = super().decode(embedding, prompts, several)
            slices = (embedding["image"].mean((1, 2, 3)) * 20 - 2).round().int()[prompts.image_index]
            shown = np.stack([disc(32, 32, 10 + int(z)) for z in slices])
            return type(found)(torch.where(torch.from_numpy(shown), 6.0, -6.0)[:, None], found.scores)

    for found in projector(scan, 0, disc(32, 32, 10), model=Knowing()).propagate(range(1, 8)):
        assert overlap(found.masks()[0], disc(32, 32, 10 + found.z)) > 0.95


def test_grey_values_move_the_border_where_the_model_has_no_weight(monkeypatch):
    scan = slices_of(lambda z: np.where(disc(32, 32, 10 + z), 80, 20), depth=8)
    monkeypatch.setattr(project, "displacement", lambda was, *_: np.zeros((2, *was.shape), np.float32))
    blind = projector(scan, 0, disc(32, 32, 10), model=Bright(threshold=2.0))
    assert blind.calibration.model_weight.tolist() == [0]
    for found in blind.propagate(range(1, 8)):
        assert overlap(found.masks()[0], disc(32, 32, 10 + found.z)) > 0.9


def test_grey_values_count_only_where_they_separate_the_organ_from_its_surroundings():
    scan = slices_of(lambda z: np.where(disc(32, 32, 10), 80, 20), depth=2)
    distinct = projector(scan, 0, disc(32, 32, 10))
    assert distinct.calibration.grey_weight[0] == 1
    flat = slices_of(lambda z: np.full((64, 64), 50.0), depth=2)
    assert projector(flat, 0, disc(32, 32, 10)).calibration.grey_weight[0] == 0


def test_a_sudden_leak_is_held_back():
    """In slice 4 the model includes a large bright neighbour; the border may move by at most its reach."""

    def draw(z):
        bright = disc(32, 20, 8)
        return np.where(bright | (disc(32, 46, 18) if z >= 4 else False), 80, 20)

    scan = slices_of(draw, depth=6)
    found = {c.z: c for c in projector(scan, 0, disc(32, 20, 8), margin_mm=30.0).propagate(range(1, 6))}
    leaked = disc(32, 20, 8) | disc(32, 46, 18)
    assert found[4].masks()[0].sum() < 0.6 * leaked.sum()
    assert found[4].agreement[0] < 0.6 < found[3].agreement[0]  # and recorded
    strict = projector(scan, 0, disc(32, 20, 8), margin_mm=30.0, min_overlap=0.9)
    gated = {c.z: c.masks()[0] for c in strict.propagate(range(1, 6))}
    assert overlap(gated[4], disc(32, 20, 8)) > 0.75


def test_an_organ_that_ends_is_propagated_no_further():
    sizes = [10, 10, 9, 7, 4, 0, 0, 0, 0, 0]
    scan = slices_of(lambda z: np.where(disc(32, 32, sizes[z]), 80, 20), depth=10, spacing=(2.0, 2.0, 5.0))
    found = {c.z: c for c in projector(scan, 0, disc(32, 32, 10)).propagate(range(1, 10))}
    assert [bool(found[z].alive[0]) for z in range(1, 5)] == [True] * 4
    assert not found[7].alive[0]
    assert not found[9].masks().any()
    assert (found[9].beliefs < 0).all()


def test_nothing_more_is_encoded_when_all_have_ended():
    model = Bright()
    scan = slices_of(lambda z: np.where(disc(32, 32, 10 if z < 3 else 0), 80, 20), depth=16)
    list(projector(scan, 0, disc(32, 32, 10), model=model).propagate(range(1, 16)))
    assert sum(model.encoded) < 10


def test_several_organs_at_once_share_an_embedding_and_never_a_pixel():
    def left(z):
        return disc(32, 22, 9)

    def right(z):
        return disc(32, 41, 10)

    scan = slices_of(lambda z: np.where(left(z), 80, 20) + np.where(right(z), 60, 0), depth=8)
    model = Bright()
    slices = list(projector(scan, 0, left(0), right(0), model=model, margin_mm=6.0).propagate(range(1, 8)))
    assert sum(model.encoded) == 8
    assert model.decoded == [2] * 8
    for found in slices:
        one, other = found.masks()
        assert not (one & other).any()
        assert overlap(one, left(found.z)) > 0.9
        assert overlap(other, right(found.z)) > 0.9


def test_an_absent_object_stays_absent():
    scan = slices_of(lambda z: np.where(disc(32, 32, 10), 80, 20), depth=3)
    found = list(projector(scan, 0, disc(32, 32, 10), np.zeros((64, 64), bool)).propagate([1, 2]))[-1]
    assert found.alive.tolist() == [True, False]
    assert found.score[1] == 0


def test_going_on_from_a_kept_slice_gives_the_same(tmp_path):
    scan = slices_of(lambda z: np.where(moving(z), 80, 20), noise=8.0)
    whole = list(projector(scan, 0, moving(0)).propagate(range(1, 10)))
    whole[3].save(tmp_path / "4.npz")
    rest = list(projector(scan, 0, moving(0)).propagate(range(5, 10), SliceState.load(tmp_path / "4.npz")))
    assert all(np.array_equal(c.beliefs, c.rounded().beliefs) for c in whole)  # or a faint pixel would be lost on disk
    for a, b in zip(whole[4:], rest, strict=True):
        assert a.z == b.z
        for name in ("beliefs", "alive", "score", "agreement", "change"):
            assert np.array_equal(getattr(a, name), getattr(b, name)), name
