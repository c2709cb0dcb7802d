"""Batch norms see one view at a time, but whole triplets; whatever has none sees all views at once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from frugalseg.models.registry import build_projection
from frugalseg.options import PretrainOptions
from frugalseg.pretraining.methods import METHODS, LearnerSettings
from frugalseg.pretraining.passes import group_into_passes, has_batch_norm

SLICES, SIDE = 4, 32
SEVERAL = [name for name, method in METHODS.items() if method.views > 1]
TRIPLETS = ["polycl-o", "polycl-s", "polycl-m", "random-pairs"]


def learner_of(name, norm, **changes):
    torch.manual_seed(0)
    method = METHODS[name]
    options = PretrainOptions(data=Path("s"), out=Path("r"), method=name, **changes)
    network = build_projection("unet", norm, 0.0)
    if method.head is not None:
        network.head = method.head.build(network.encoder.embedding_dim, 1)
    return method.learner(network, LearnerSettings(options, method.recipe.tau, 10, method.views)).train()


def parts_of(learner):
    return torch.rand(learner.views, SLICES, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def first_parts(name, outputs, compared=SLICES):
    """Of what a learner's forward gives, all that comes of the first view of its kind."""
    if name == "supercl":
        return outputs.slices[:SLICES], outputs.pixels[:compared], outputs.means[:SLICES]
    if name == "moco":
        return outputs[:1]  # the keys are those of the second view
    if name == "byol":
        return tuple(part[:SLICES] for part in outputs)
    return (outputs[:SLICES],)


@pytest.mark.parametrize("name", SEVERAL)
def test_what_other_views_show_changes_nothing_under_batch_norm(name):
    learner = learner_of(name, "batch")
    parts = parts_of(learner)
    other = parts.clone()
    first_of_each = [0, 2] if name == "supercl" else [0]  # V1 and I1
    for view in range(len(parts)):
        if view not in first_of_each:
            other[view] = 3 * other[view] + 1
    found = first_parts(name, learner(parts.flatten(0, 1)))
    again = first_parts(name, learner(other.flatten(0, 1)))
    for one, two in zip(found, again, strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("name", [name for name in SEVERAL if name not in {"moco", "byol", "supercl"}])
def test_each_view_is_embedded_independently(name):
    learner = learner_of(name, "batch")
    parts = parts_of(learner)
    alone = torch.cat([learner.network(view) for view in parts])
    torch.testing.assert_close(learner(parts.flatten(0, 1)), alone)


def test_a_share_of_supercls_slices_is_normalised_view_by_view_too():
    learner = learner_of("supercl", "batch", intra_slices=0.5)
    parts = parts_of(learner)
    other = parts.clone()
    other[[1, 3]] = 3 * other[[1, 3]] + 1
    found, again = [], []
    for kept, images in ((found, parts), (again, other)):
        torch.manual_seed(2)  # the same slices are drawn
        kept.extend(first_parts("supercl", learner(images.flatten(0, 1)), compared=2))
    assert all(torch.equal(one, two) for one, two in zip(found, again, strict=True))


@pytest.mark.parametrize("name", TRIPLETS)
def test_a_slice_of_a_triplet_has_the_same_vector_in_each_role(name):
    """Negatives show other organs: statistics of their own would tell them apart, whatever the network learns."""
    learner = learner_of(name, "batch")
    images = torch.rand(3 * SLICES, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    images[2 * SLICES :] /= 4
    roles = torch.randperm(len(images), generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(learner(images[roles]), learner(images)[roles], atol=1e-3, rtol=0)


@pytest.mark.parametrize("norm", ["batch", "instance_affine"])
@pytest.mark.parametrize("name", [name for name in SEVERAL if name not in {"moco", "byol"}])
def test_only_batch_norms_cost_more_passes(name, norm):
    learner, seen = learner_of(name, norm), []
    learner.network.encoder.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    learner(parts_of(learner).flatten(0, 1))
    assert seen == ([SLICES] * learner.views if norm == "batch" else [SLICES * learner.views])


def test_byols_own_batch_norms_are_enough():
    """Projector and predictor have them, whatever the backbone has."""
    test_what_other_views_show_changes_nothing_under_batch_norm("byol")
    learner = learner_of("byol", "instance_affine")
    assert has_batch_norm(learner.network.head)
    parts = parts_of(learner)
    found = learner(parts.flatten(0, 1))[0][:SLICES]
    parts[1] = 1 - parts[1]
    assert torch.equal(found, learner(parts.flatten(0, 1))[0][:SLICES])


def test_views_are_kept_in_order():
    views = [torch.full((2, 1, 1, 1), float(view)) for view in range(3)]
    assert [part.flatten().tolist() for part in group_into_passes(nn.BatchNorm2d(1), views)] == [[0, 0], [1, 1], [2, 2]]
    assert [part.flatten().tolist() for part in group_into_passes(nn.InstanceNorm2d(1), views)] == [[0, 0, 1, 1, 2, 2]]
