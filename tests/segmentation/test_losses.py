from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from frugalseg.segmentation.losses import add_background, make_loss, probabilities

G = torch.Generator().manual_seed(0)


def test_one_class_is_the_sigmoid_and_binary_cross_entropy():
    logits, classes = torch.randn(4, 1, 8, 8, generator=G), torch.randint(0, 2, (4, 8, 8), generator=G)
    assert torch.allclose(probabilities(logits), logits.sigmoid(), atol=1e-6)
    parts = make_loss("dice_over_batch+ce")(logits, classes.to(torch.uint8))
    expected = F.binary_cross_entropy_with_logits(logits[:, 0], classes.float())
    assert parts["ce_loss"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_several_classes_share_one_with_the_background():
    p = probabilities(torch.randn(2, 3, 5, 5, generator=G))
    assert p.shape == (2, 3, 5, 5)
    assert ((p >= 0) & (p.sum(dim=1, keepdim=True) < 1)).all()
    assert add_background(torch.full((1, 2, 1, 1), -1.0)).argmax(dim=1).item() == 0


def naive_dice(p, target, smooth):
    return 1 - (2 * (p * target).sum() + smooth) / (p.sum() + target.sum() + smooth)


def test_dice_over_the_batch_pools_slices_per_class():
    logits, classes = torch.randn(3, 2, 6, 6, generator=G), torch.randint(0, 3, (3, 6, 6), generator=G)
    p = probabilities(logits)
    expected = sum(naive_dice(p[:, c], (classes == c + 1).float(), 1e-5) for c in range(2)) / 2
    assert make_loss("dice_over_batch+ce")(logits, classes)["dice_loss"].item() == pytest.approx(
        expected.item(), rel=1e-5
    )


def test_dice_per_slice_is_the_papers():
    logits, classes = torch.randn(3, 1, 6, 6, generator=G), torch.randint(0, 2, (3, 6, 6), generator=G)
    classes[1] = 0
    p = probabilities(logits)
    expected = sum(naive_dice(p[i, 0], classes[i].float(), 1.0) for i in range(3)) / 3
    parts = make_loss("dice_per_slice")(logits, classes)
    assert parts["loss"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert set(parts) == {"loss", "dice_loss"}


def test_ce_is_the_plain_cross_entropy_over_background_and_classes():
    logits, classes = torch.randn(3, 2, 6, 6, generator=G), torch.randint(0, 3, (3, 6, 6), generator=G)
    parts = make_loss("ce")(logits, classes)
    assert set(parts) == {"loss", "ce_loss"}
    p = torch.cat([torch.zeros(3, 1, 6, 6), logits], dim=1).double().softmax(dim=1)
    expected = -p.gather(1, classes.unsqueeze(1)).log().mean()
    assert parts["loss"].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("name", ["dice_per_slice", "dice_over_batch+ce", "log_dice_over_batch+ce", "ce"])
def test_right_answer_is_better_than_wrong_and_gradient_points_there(name):
    classes = torch.zeros(2, 8, 8, dtype=torch.uint8)
    classes[:, 2:6, 2:6] = 1
    right = (classes.float() * 2 - 1).unsqueeze(1) * 6
    loss = make_loss(name)
    assert loss(right, classes)["loss"] < 0.05
    assert loss(-right, classes)["loss"] > 0.9
    logits = torch.zeros(2, 1, 8, 8, requires_grad=True)
    loss(logits, classes)["loss"].backward()
    assert (logits.grad[classes.unsqueeze(1) == 1] < 0).all()
    assert (logits.grad[classes.unsqueeze(1) == 0] > 0).all()


@pytest.mark.parametrize(
    ("name", "smooth", "batch"), [("dice_per_slice", 1.0, False), ("dice_over_batch+ce", 1e-5, True)]
)
def test_dice_is_monais(name, smooth, batch):
    from monai.losses import DiceLoss

    logits, classes = torch.randn(3, 2, 6, 6, generator=G), torch.randint(0, 3, (3, 6, 6), generator=G)
    one_hot = F.one_hot(classes, 3).movedim(-1, 1)[:, 1:]
    oracle = DiceLoss(batch=batch, smooth_nr=smooth, smooth_dr=smooth)(probabilities(logits), one_hot)
    assert make_loss(name)(logits, classes)["dice_loss"].item() == pytest.approx(oracle.item(), rel=1e-5)


@pytest.mark.parametrize("name", ["dice_per_slice", "dice_over_batch+ce", "log_dice_over_batch+ce"])
def test_a_weight_counts_as_so_many_pixels(name):
    """Weight 0 is as if the pixel were not there, and full weights change nothing."""
    logits, classes = torch.randn(4, 1, 6, 6, generator=G), torch.randint(0, 2, (4, 6, 6), generator=G)
    loss, ones = make_loss(name), torch.ones(4, 6, 6)
    assert loss(logits, classes, ones)["loss"].item() == pytest.approx(loss(logits, classes)["loss"].item())
    weights = ones.clone()
    weights[:, :, 3:] = 0
    other = classes.clone()
    other[:, :, 3:] = 1 - other[:, :, 3:]
    assert loss(logits, classes, weights)["loss"].item() == loss(logits, other, weights)["loss"].item()
    cropped = loss(logits[..., :3], classes[..., :3])
    for part, value in loss(logits, classes, weights).items():
        assert value.item() == pytest.approx(cropped[part].item(), rel=1e-5)


def test_nothing_to_learn_from_is_no_division_by_zero():
    logits = torch.randn(2, 1, 4, 4, generator=G).requires_grad_()
    parts = make_loss("dice_over_batch+ce")(logits, torch.zeros(2, 4, 4, dtype=torch.uint8), torch.zeros(2, 4, 4))
    parts["loss"].backward()
    assert torch.isfinite(parts["loss"])
    assert torch.isfinite(logits.grad).all()


def test_log_dice_is_the_mean_over_the_classes_that_are_shown():
    logits, classes = torch.randn(3, 3, 6, 6, generator=G), 2 * torch.randint(0, 2, (3, 6, 6), generator=G)
    classes[0, 0, 0] = 3
    p = probabilities(logits)
    dice = [1 - naive_dice(p[:, c], (classes == c + 1).float(), 1e-5) for c in range(3)]
    expected = -1.1 * sum(torch.log((dice[c] + 0.1) / 1.1) for c in (1, 2)) / 2  # class 1 is in no slice
    assert make_loss("log_dice_over_batch+ce")(logits, classes)["dice_loss"].item() == pytest.approx(
        expected.item(), rel=1e-5
    )


def test_log_dice_moves_a_small_organ_that_is_nowhere_predicted():
    """Four pixels of 4096, probability 1e-4: the gradient of log Dice is an order larger than that of 1 − Dice."""
    classes = torch.zeros(1, 64, 64, dtype=torch.uint8)
    classes[0, :2, :2] = 1
    pulls = {}
    for name in ("dice_over_batch+ce", "log_dice_over_batch+ce"):
        logits = torch.full((1, 1, 64, 64), -9.2).requires_grad_()
        make_loss(name)(logits, classes)["dice_loss"].backward()
        pulls[name] = -logits.grad[0, 0, :2, :2].sum().item()
    assert pulls["log_dice_over_batch+ce"] > 9 * pulls["dice_over_batch+ce"] > 0


def test_nothing_shown_has_no_dice_term():
    logits = torch.randn(2, 2, 4, 4, generator=G).requires_grad_()
    parts = make_loss("log_dice_over_batch+ce")(logits, torch.zeros(2, 4, 4, dtype=torch.uint8))
    parts["dice_loss"].backward()
    assert parts["dice_loss"].item() == 0
    assert torch.isfinite(logits.grad).all()


def test_background_of_a_slice_may_be_any_class_that_is_unknown_there():
    logits, classes = torch.randn(2, 2, 6, 6, generator=G), torch.randint(0, 2, (2, 6, 6), generator=G)
    classes[0, 0, 0] = 2
    unknown = torch.tensor([[False, False], [False, True]])
    p = F.pad(logits, (0, 0, 0, 0, 1, 0)).softmax(dim=1)
    background = torch.stack([p[0, 0], p[1, 0] + p[1, 2]])
    of_pixel = torch.where(classes == 0, background, p.gather(1, classes.unsqueeze(1))[:, 0])
    parts = make_loss("dice_over_batch+ce")(logits, classes, None, unknown)
    assert parts["ce_loss"].item() == pytest.approx(-of_pixel.log().mean().item(), rel=1e-5)
    dice = naive_dice(p[:, 1], (classes == 1).float(), 1e-5), naive_dice(p[0, 2], (classes[0] == 2).float(), 1e-5)
    assert parts["dice_loss"].item() == pytest.approx((sum(dice) / 2).item(), rel=1e-5)


def test_no_class_is_unknown_unless_stated():
    logits, classes = torch.randn(2, 2, 6, 6, generator=G), torch.randint(0, 3, (2, 6, 6), generator=G)
    stated = make_loss("log_dice_over_batch+ce")(logits, classes, None, torch.zeros(2, 2, dtype=torch.bool))
    assert stated["loss"].item() == pytest.approx(make_loss("log_dice_over_batch+ce")(logits, classes)["loss"].item())
