from __future__ import annotations

import pytest
import torch

from frugalseg.dataset.augment import Augment
from frugalseg.dataset.source import Slices

SIZE = 64


def blob(batch=8, side=SIZE):
    """A bright rectangle off the centre, its mask with class 3, on grey."""
    labels = torch.zeros(batch, side, side, dtype=torch.uint8)
    labels[:, 14:34, 8:40] = 3
    images = torch.full((batch, 1, side, side), 0.3)
    images[labels.unsqueeze(1) == 3] = 0.8
    return Slices(images, labels)


@pytest.mark.parametrize("strength", ["light", "robust", "supercl"])
def test_mask_moves_with_the_image(strength):
    torch.manual_seed(0)
    changed = Augment(strength)(blob(batch=32))
    for image, label in zip(changed.images[:, 0], changed.labels, strict=True):
        inside, outside = image[label == 3].mean(), image[(label == 0) & (image > 0.05)].mean()
        assert inside - outside > 0.1
    assert set(changed.labels.unique().tolist()) == {0, 3}
    assert changed.labels.dtype == torch.uint8


def test_images_stay_in_range_and_every_slice_draws_its_own_change():
    torch.manual_seed(1)
    changed = Augment("robust")(blob())
    assert changed.images.min() >= 0
    assert changed.images.max() <= 1
    assert changed.images.shape == (8, 1, 64, 64)
    assert all(not torch.equal(changed.images[0], other) for other in changed.images[1:])


def test_light_changes_less_than_robust():
    moved = {}
    for strength in ("light", "robust"):
        torch.manual_seed(2)
        batch = blob(batch=64)
        moved[strength] = (Augment(strength)(batch).labels != batch.labels).float().mean().item()
    assert 0 < moved["light"] < 0.6 * moved["robust"]


def test_organs_keep_their_side():
    torch.manual_seed(3)
    labels = Augment("robust")(blob(batch=64)).labels
    columns = torch.arange(64.0)
    centres = [(label.float().sum(0) * columns).sum() / label.sum() for label in labels]
    assert max(centres) < 36  # the blob's own is 23.5 of 64; a flip would put it at 39.5


def test_generator_state_decides_and_the_input_is_left_alone():
    batch, augment = blob(), Augment("robust")
    before = batch.images.clone()
    torch.manual_seed(4)
    first = augment(batch)
    torch.manual_seed(4)
    again = augment(batch)
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.labels, again.labels)
    assert torch.equal(batch.images, before)


def test_without_labels():
    assert Augment("light")(Slices(blob().images, None)).labels is None


def test_weights_move_with_the_labels():
    torch.manual_seed(5)
    batch = blob()
    weighted = Slices(batch.images, batch.labels, torch.where(batch.labels == 3, 0.25, 0.5))
    changed = Augment("robust").move(weighted)
    assert (changed.weights[changed.labels == 3] == 0.25).all()
    outside = changed.images[:, 0] == 0
    assert outside.any()
    assert (changed.weights[outside] == 1).all()
    assert set(changed.weights.unique().tolist()) == {0.25, 0.5, 1.0}
    assert Augment("robust")(batch).weights is None


def test_moving_and_recolouring_are_apart():
    torch.manual_seed(6)
    augment, batch = Augment("robust"), blob(batch=16)
    assert torch.equal(augment.recolour(batch).labels, batch.labels)
    moved = augment.move(batch)
    assert not torch.equal(moved.labels, batch.labels)
    inside = moved.images[:, 0][moved.labels == 3]
    assert inside.median() == pytest.approx(0.8)
