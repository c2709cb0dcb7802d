"""SuperCL's terms against loops and hand-made examples, its views, and its run on tiny scans."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from frugalseg.errors import OptionError
from frugalseg.models.registry import build_projection
from frugalseg.options import PretrainOptions
from frugalseg.pretraining import supercl
from frugalseg.pretraining.loss import contrastive_loss
from frugalseg.pretraining.methods import METHODS, LearnerSettings
from frugalseg.pretraining.supercl import (
    SuperCL,
    nearest_neighbour_groups,
    pixel_loss,
    sample_cells,
    sample_slices,
    superpixel_means,
    superpixels_of_cells,
)
from tests.pretraining.metadata import make_metadata
from tests.pretraining.test_loss import naive

TAU = 0.1


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def options(**changes):
    return PretrainOptions(data=Path("store"), out=Path("run"), method="supercl", **changes)


def learner(**changes):
    method, chosen = METHODS["supercl"], options(backbone="supercl-unet", **changes)
    network = build_projection("supercl-unet", "batch", inputs=1)
    network.head = method.head.build(network.encoder.embedding_dim, 1)
    return SuperCL(network, chosen, TAU)


def quarters(batch, side):
    """Superpixels of four equal squares."""
    half = torch.arange(side) * 2 // side
    return (2 * half[:, None] + half[None, :]).expand(batch, side, side).to(torch.int16)


# ---- cells and samples


def test_each_cell_has_the_superpixel_at_its_centre():
    superpixels = torch.randint(0, 30, (3, 64, 64), dtype=torch.int16)
    cells = superpixels_of_cells(superpixels, 16, (4, 4))
    for picture in range(3):
        for row in range(4):
            for column in range(4):
                assert cells[picture, row, column] == superpixels[picture, 16 * row + 8, 16 * column + 8] + 1


def test_padding_is_a_superpixel_of_its_own():
    cells = superpixels_of_cells(torch.zeros(1, 40, 40, dtype=torch.int16), 16, (48, 48))
    assert cells.unique().tolist() == [0, 1]
    assert (cells == 1).sum() == 40 * 40
    assert (cells[:, 4:44, 4:44] == 1).all()


def test_random_cells_differ_cover_every_column_and_are_redrawn():
    maps = torch.zeros(40, 1, 8, 8)
    first, second = sample_cells(maps, 16, "random"), sample_cells(maps, 16, "random")
    assert first.shape == (40, 16)
    assert all(len(set(row.tolist())) == 16 for row in first)
    assert set((first % 8).flatten().tolist()) == set(range(8))
    assert not torch.equal(first, second)
    assert sample_cells(maps, 1000, "random").sort(dim=1).values.equal(torch.arange(64).expand(40, 64))


def test_the_published_stride_leaves_columns_out():
    cells = sample_cells(torch.zeros(2, 1, 32, 32), 256, "stride")
    assert cells[0].tolist() == list(range(0, 1024, 16))
    assert set((cells % 32).flatten().tolist()) == {0, 16}


def test_random_slices_differ_are_redrawn_and_are_at_least_one():
    cpu = torch.device("cpu")
    drawn = [sample_slices(10, 0.3, cpu).tolist() for _ in range(40)]
    assert all(len(set(slices)) == 3 for slices in drawn)
    assert {i for slices in drawn for i in slices} == set(range(10))
    assert len({tuple(slices) for slices in drawn}) > 20
    assert len(sample_slices(10, 0.001, cpu)) == 1


def test_all_slices_are_in_order_and_draw_nothing():
    before = torch.get_rng_state()
    assert sample_slices(10, 1.0, torch.device("cpu")).tolist() == list(range(10))
    assert torch.equal(torch.get_rng_state(), before)


# ---- L_intra


def test_pixel_loss_is_the_mean_of_every_slices_loops():
    first, second = torch.randn(3, 5, 4, 4), torch.randn(3, 5, 4, 4)
    labels = torch.randint(0, 3, (3, 4, 4))
    chosen = sample_cells(first, 7, "random")
    expected = []
    for i in range(3):
        pixels = [m[i].flatten(1).T[chosen[i]] for m in (first, second)]
        label = labels[i].flatten()[chosen[i]].repeat(2)
        positives = torch.tensor([[a != b and label[a] == label[b] for b in range(14)] for a in range(14)])
        expected.append(naive(torch.cat(pixels), positives, ~torch.eye(14, dtype=torch.bool), TAU))
    assert pixel_loss(first, second, labels, chosen, TAU).item() == pytest.approx(np.mean(expected), rel=1e-4)


def test_pixel_loss_of_constant_features_is_that_of_guessing():
    maps = torch.ones(2, 6, 8, 8)
    chosen = sample_cells(maps, 20, "random")
    loss = pixel_loss(maps, maps, quarters(2, 8).long(), chosen, TAU)
    assert loss.item() == pytest.approx(math.log(2 * 20 - 1), rel=1e-5)


def test_a_constant_slice_which_is_one_superpixel_does_no_harm():
    maps = torch.randn(2, 6, 4, 4, requires_grad=True)
    labels = torch.zeros(2, 4, 4, dtype=torch.int64)
    loss = pixel_loss(maps, maps, labels, sample_cells(maps, 256, "random"), TAU)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(maps.grad).all()


def test_pixels_of_other_slices_do_not_count():
    first, second = torch.randn(2, 5, 4, 4), torch.randn(2, 5, 4, 4)
    labels, chosen = quarters(2, 4).long(), sample_cells(first, 9, "random")
    together = pixel_loss(first, second, labels, chosen, TAU)
    alone = [
        pixel_loss(first[i : i + 1], second[i : i + 1], labels[i : i + 1], chosen[i : i + 1], TAU) for i in range(2)
    ]
    assert together.item() == pytest.approx(sum(alone).item() / 2, rel=1e-5)


# ---- ASP and CCL


def test_average_superpixel_maps_of_two_superpixels_by_hand():
    values = torch.tensor([[[1.0, 2.0, 3.0], [5.0, 5.0, 5.0]]])
    labels = torch.tensor([[[7, 7, 7], [7, 2, 2]]])
    own = superpixel_means(values, labels, "cluster")
    assert own.tolist() == [[2.75, 2.75, 2.75, 2.75, 5.0, 5.0]]
    shares = superpixel_means(values, labels, "global")
    torch.testing.assert_close(shares, torch.tensor([[11.0, 11, 11, 11, 10, 10]]) / 6)


def test_groups_are_chains_of_nearest_neighbours():
    degrees = torch.tensor([0.0, 2.0, 5.0, 90.0, 91.0]).deg2rad()
    # 0 and 1 choose each other, 2 follows 1; 3 and 4 choose each other.
    groups = nearest_neighbour_groups(torch.stack([degrees.cos(), degrees.sin()], dim=1))
    assert groups[0] == groups[1] == groups[2]
    assert groups[3] == groups[4]
    assert groups[0] != groups[3]


def test_groups_forget_length_and_one_pair_is_one_group():
    vectors = torch.tensor([[1.0, 0.1], [100.0, 11.0], [0.1, 1.0], [1.0, 9.0]])
    groups = nearest_neighbour_groups(vectors)
    assert groups[0] == groups[1]
    assert groups[2] == groups[3]
    assert groups[0] != groups[2]
    assert nearest_neighbour_groups(vectors[:2]).tolist() == [0, 0]


# ---- the whole


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_the_loss_is_the_sum_of_its_three_terms_over_the_right_views(share):
    model = learner(intra_weight=0.7, inter_weight=0.3, intra_slices=share).eval()
    metadata = make_metadata([0] * 4 + [1] * 4, [[1]] * 8)
    images, rows = torch.rand(16, 1, 64, 64), torch.tensor([0, 3, 4, 7])
    seen = model(images)
    maps = torch.randint(0, 6, (4, 64, 64), dtype=torch.int16)
    torch.manual_seed(5)
    found = model.losses(seen, metadata, rows.repeat(4), maps)

    encoder = model.network.encoder
    slices = model.network.head(encoder.embed(encoder(images[:8])))
    position = [0.25, 1.0, 0.25, 1.0] * 2  # slices 0 and 3 of two scans of four
    near = torch.tensor([[a != b and position[a] == position[b] for b in range(8)] for a in range(8)])
    others = ~torch.eye(8, dtype=torch.bool)
    assert found["instance_loss"].item() == pytest.approx(naive(slices, near, others, TAU), rel=1e-3)

    coarse = encoder(images[8:])[-1]
    torch.manual_seed(5)
    compared = seen.compared.tolist()
    assert len(compared) == 4 * share
    chosen = sample_cells(coarse[compared], 256, "random")
    labels = superpixels_of_cells(maps, 16, (4, 4))
    intra = pixel_loss(coarse[:4][compared], coarse[4:][compared], labels[compared], chosen, TAU)
    assert found["intra_loss"].item() == pytest.approx(intra.item(), rel=1e-4)

    average = superpixel_means(coarse.mean(1), labels.repeat(2, 1, 1), "cluster")
    cosine = F.normalize(average, dim=1) @ F.normalize(average, dim=1).T
    cosine.fill_diagonal_(-2)
    joined = {(a, int(cosine[a].argmax())) for a in range(8)}
    group = list(range(8))
    for _ in range(8):
        for a, b in joined:
            group[a] = group[b] = min(group[a], group[b])
    alike = torch.tensor([[a != b and (group[a] == group[b] or a % 4 == b % 4) for b in range(8)] for a in range(8)])
    assert torch.equal(alike, alike.T)
    assert found["inter_loss"].item() == pytest.approx(naive(slices, alike, others, TAU), rel=1e-3)
    assert found["groups"].item() == len(set(group))
    total = found["instance_loss"] + 0.7 * found["intra_loss"] + 0.3 * found["inter_loss"]
    assert found["loss"].item() == pytest.approx(total.item(), rel=1e-6)


def test_every_term_has_gradients_in_the_encoder_and_only_slice_terms_in_the_head():
    maps, rows = torch.randint(0, 6, (4, 64, 64), dtype=torch.int16), torch.arange(4).repeat(4)
    images, metadata = torch.rand(16, 1, 64, 64), make_metadata([0] * 4, [[1]] * 4)
    for term, reaches_head in (("instance_loss", True), ("intra_loss", False), ("inter_loss", True)):
        model = learner()
        model.losses(model(images), metadata, rows, maps)[term].backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.network.encoder.centre[2].parameters())
        assert all((p.grad is not None) == reaches_head for p in model.network.head.parameters())


def only(monkeypatch, *slices):
    monkeypatch.setattr(supercl, "sample_slices", lambda batch, share, device: torch.tensor(slices))


def test_shares_of_one_slice_come_on_average_to_all_slices(monkeypatch):
    maps, rows = torch.randint(0, 6, (3, 64, 64), dtype=torch.int16), torch.arange(3).repeat(4)
    images, metadata = torch.rand(12, 1, 64, 64), make_metadata([0] * 3, [[1]] * 3)
    model = learner(pixel_sample="stride", pixel_map="quarter").eval()

    def found(*slices):
        only(monkeypatch, *slices)
        loss = model.losses(model(images), metadata, rows, maps)["intra_loss"]
        weights = [*model.project.parameters(), *model.network.encoder.levels[0].parameters()]
        return loss.item(), torch.autograd.grad(loss, weights)

    whole, gradients = found(0, 1, 2)
    shares = [found(i) for i in range(3)]
    assert np.mean([loss for loss, _ in shares]) == pytest.approx(whole, rel=1e-5)
    assert np.ptp([loss for loss, _ in shares]) > 1e-3
    for i, gradient in enumerate(gradients):
        assert gradient.abs().sum() > 0
        torch.testing.assert_close(sum(g[i] for _, g in shares) / 3, gradient, rtol=1e-3, atol=1e-5)


def test_l_intra_has_gradients_in_its_slices_only(monkeypatch):
    only(monkeypatch, 3, 1)
    model = learner().eval()  # in training, batch norm ties all pictures together
    images = torch.rand(16, 1, 32, 32, requires_grad=True)
    found = model.losses(model(images), make_metadata([0] * 4, [[1]] * 4), torch.arange(4).repeat(4), quarters(4, 32))
    found["intra_loss"].backward()
    reached = images.grad.abs().sum(dim=(1, 2, 3)) > 0
    assert reached.nonzero().flatten().tolist() == [8 + 1, 8 + 3, 12 + 1, 12 + 3]


@pytest.mark.parametrize("training", [True, False])
def test_groups_do_not_depend_on_which_slices_are_compared(monkeypatch, training):
    model, images, means = learner().train(training), torch.rand(16, 1, 32, 32), []
    for slices in ((0,), (2,), (3, 1)):
        only(monkeypatch, *slices)
        means.append(model(images).means)
    assert not any(m.requires_grad for m in means)
    assert torch.equal(means[0], means[1])
    assert torch.equal(means[0], means[2])


@pytest.mark.parametrize(
    ("share", "expected"), [(1.0, [(4, True)] * 4), (0.5, [(4, True)] * 2 + [(2, True)] * 2 + [(4, False)] * 2)]
)
def test_slices_that_are_not_compared_have_no_backward_pass(share, expected):
    model, passes = learner(intra_slices=share), []
    model.network.encoder.register_forward_pre_hook(
        lambda _, inputs: passes.append((len(inputs[0]), torch.is_grad_enabled()))
    )
    model(torch.rand(16, 1, 32, 32))
    assert passes == expected


def test_dropout_blurs_what_is_learned_from_and_not_what_groups_are_found_by():
    model, images = learner(intra_slices=0.5), torch.rand(16, 1, 32, 32)
    dropout = torch.nn.Dropout(0.5)
    model.network.encoder.centre.append(dropout)
    first, second = model(images), model(images)
    assert torch.equal(first.means, second.means)
    assert not torch.equal(first.slices, second.slices)
    assert dropout.training


def test_every_term_teaches_under_autocast_too():
    """Autocast keeps the weights it has cast; those of the pass without gradients must not serve the other."""
    model = learner()
    metadata, rows = make_metadata([0] * 4, [[1]] * 4), torch.arange(4).repeat(4)
    with torch.autocast("cpu", torch.bfloat16):
        seen = model(torch.rand(16, 1, 32, 32))
    found = model.losses(seen, metadata, rows, quarters(4, 32))
    weights = list(model.network.encoder.parameters())
    for term in ("instance_loss", "intra_loss", "inter_loss"):
        gradients = torch.autograd.grad(found[term], weights, retain_graph=True, allow_unused=True)
        assert all(g is not None and torch.isfinite(g).all() for g in gradients)
        assert sum(g.abs().sum() for g in gradients) > 0


def test_slices_without_a_height_attract_only_their_other_view():
    model = learner()
    metadata = make_metadata([0, 1, 2, 3], [[1]] * 4, position=[math.nan] * 4)
    seen = model(torch.rand(16, 1, 32, 32))
    rows = torch.arange(4).repeat(4)
    found = model.losses(seen, metadata, rows, quarters(4, 32))
    same = (rows[:8, None] == rows[None, :8]) & ~torch.eye(8, dtype=torch.bool)
    simclr = contrastive_loss(seen.slices, same, ~torch.eye(8, dtype=torch.bool), TAU)
    assert found["instance_loss"].item() == pytest.approx(simclr.item(), rel=1e-6)


def test_a_batch_of_one_slice_is_no_error():
    model = learner()
    metadata = make_metadata([0, 0], [[1]] * 2)
    loss = model.losses(model(torch.rand(4, 1, 32, 32)), metadata, torch.zeros(4, dtype=torch.int64), quarters(1, 32))
    assert torch.isfinite(loss["loss"])


def test_quarter_map_compares_projected_pixels_of_the_finer_map():
    model = learner(pixel_map="quarter", intra_slices=1.0)
    seen = model(torch.rand(8, 1, 64, 64))
    assert seen.pixels.shape == (4, 128, 16, 16)
    assert seen.means.shape == (4, 4, 4)
    found = model.losses(seen, make_metadata([0, 0], [[1]] * 2), torch.arange(2).repeat(4), quarters(2, 64))
    found["intra_loss"].backward()
    assert model.project.weight.grad.abs().sum() > 0


def test_online_superpixels_are_those_of_each_view():
    model = learner(superpixels="online", segments=4)
    images = torch.zeros(4, 1, 64, 64)
    images[2, 0, :, :20] = 0.9  # I1 is split upright, I2 across
    images[3, 0, :20, :] = 0.9
    maps = model(images).superpixels
    assert maps.shape == (2, 64, 64)
    assert not set(maps[0, :, :20].unique().tolist()) & set(maps[0, :, 20:].unique().tolist())
    assert not set(maps[1, :20, :].unique().tolist()) & set(maps[1, 20:, :].unique().tolist())
    model.losses(model(images), make_metadata([0, 0], [[1]] * 2), torch.zeros(4, dtype=torch.int64))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"segments": 9}, "online"),
        ({"compactness": 3.0}, "online"),
        ({"intra_weight": -1.0}, "--intra-weight"),
        ({"max_pixels": 0}, "--max-pixels"),
        ({"intra_slices": 0.0}, "--intra-slices"),
        ({"intra_slices": 1.5}, "--intra-slices"),
        ({"intra_slices": math.nan}, "--intra-slices"),
        ({"superpixels": "online", "segments": 1}, "--segments"),
    ],
)
def test_bad_values(values, message):
    with pytest.raises(OptionError, match=message):
        options(**values)


def test_setting_builds_it():
    method = METHODS["supercl"]
    network = build_projection("supercl-unet", "batch", inputs=1)
    assert isinstance(method.learner(network, LearnerSettings(options(), method.recipe.tau, 10, method.views)), SuperCL)
