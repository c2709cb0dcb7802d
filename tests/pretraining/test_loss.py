"""The one loss against loops, and PolyCL's formula against the one loss."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from frugalseg.pretraining.loss import byol_loss, contrastive_loss, triplet_pairs


def naive(z, positives, compared, tau, one_by_one=False):
    """Mean over anchors of −1/|P| Σ ( s_ap − log Σ_b exp s_ab ), in float64, entry by entry."""
    z = F.normalize(z.detach().double(), dim=1)
    terms = []
    for a in range(len(z)):
        own = [p for p in range(len(z)) if positives[a, p]]
        if not own:
            continue
        parts = {b: math.exp(float(z[a] @ z[b]) / tau) for b in range(len(z)) if compared[a, b]}
        shares = []
        for p in own:
            left_out = [b for b in own if b != p] if one_by_one else []
            denominator = sum(part for b, part in parts.items() if b not in left_out)
            shares.append(math.log(parts[p] / denominator))
        terms.append(-sum(shares) / len(own))
    return sum(terms) / len(terms)


@pytest.mark.parametrize("one_by_one", [False, True])
@pytest.mark.parametrize("tau", [0.05, 0.1, 1.0])
def test_equals_the_loops_on_random_pairs(tau, one_by_one):
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(12, 5, generator=generator)
    off_diagonal = ~torch.eye(12, dtype=torch.bool)
    positives = (torch.rand(12, 12, generator=generator) < 0.2) & off_diagonal
    positives[3] = False  # an anchor without a positive is left out of the mean
    compared = (positives | (torch.rand(12, 12, generator=generator) < 0.5)) & off_diagonal
    assert float(contrastive_loss(z, positives, compared, tau, one_by_one=one_by_one)) == pytest.approx(
        naive(z, positives, compared, tau, one_by_one), rel=1e-5
    )


def test_one_by_one_positives_do_not_push_each_other_away():
    """The loss of an anchor equal to both its positives is 0; compared with all entries it is log 2."""
    z = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    positives = torch.zeros(4, 4, dtype=torch.bool)
    positives[0, 1:3] = True
    compared = positives.clone()
    compared[0, 3] = True
    assert float(contrastive_loss(z, positives, compared, 0.1, one_by_one=True)) < 1e-6
    assert float(contrastive_loss(z, positives, compared, 0.1)) == pytest.approx(math.log(2), abs=1e-6)


def test_with_one_positive_an_anchor_one_by_one_changes_nothing():
    z = torch.randn(30, 8, generator=torch.Generator().manual_seed(6))
    pairs = triplet_pairs(10)
    alone = contrastive_loss(z, *pairs, 0.05, one_by_one=True)
    assert float(alone) == pytest.approx(float(contrastive_loss(z, *pairs, 0.05)), rel=1e-5)


def test_triplets_are_polycls_formula():
    z = torch.randn(24, 16, generator=torch.Generator().manual_seed(1))
    anchor, positive, negative = F.normalize(z.double(), dim=1).split(8)
    near, far = (anchor * positive).sum(1) / 0.05, (anchor * negative).sum(1) / 0.05
    published = -torch.log(near.exp() / (near.exp() + far.exp()))
    loss = contrastive_loss(z, *triplet_pairs(8), tau=0.05)
    assert float(loss) == pytest.approx(float(published.mean()), abs=1e-6 * max(1.0, float(published.mean())))
    assert float(loss) == pytest.approx(float(F.softplus(far - near).mean()), rel=1e-6)


def test_swapping_positive_and_negative_changes_the_loss():
    anchor = torch.tensor([[1.0, 0.0]])
    near, far = torch.tensor([[0.9, 0.1]]), torch.tensor([[-1.0, 0.0]])
    right = contrastive_loss(torch.cat([anchor, near, far]), *triplet_pairs(1), tau=0.05)
    swapped = contrastive_loss(torch.cat([anchor, far, near]), *triplet_pairs(1), tau=0.05)
    assert float(right) < 1e-6
    assert float(swapped) == pytest.approx((0.9 / math.hypot(0.9, 0.1) + 1) / 0.05, rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize(("near", "far"), [(1.0, -1.0), (-1.0, 1.0)])
def test_finite_with_finite_gradient_at_the_extremes(dtype, near, far):
    anchor = torch.ones(4, 8, dtype=dtype)
    z = torch.cat([anchor, anchor * near, anchor * far]).requires_grad_()
    loss = contrastive_loss(z, *triplet_pairs(4), tau=0.05)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(z.grad).all()
    assert loss.item() == pytest.approx(0.0 if near > 0 else 40.0, abs=1e-3)


def test_autocast_does_not_coarsen_the_loss():
    z = torch.randn(30, 64, generator=torch.Generator().manual_seed(2))
    exact = contrastive_loss(z, *triplet_pairs(10), tau=0.05)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert float(contrastive_loss(z, *triplet_pairs(10), tau=0.05)) == float(exact)


@pytest.mark.parametrize("one_by_one", [False, True])
def test_no_positives_at_all_is_zero_not_nan(one_by_one):
    nothing = torch.zeros(4, 4, dtype=torch.bool)
    z = torch.randn(4, 3, requires_grad=True)
    loss = contrastive_loss(z, nothing, nothing, tau=0.1, one_by_one=one_by_one)
    loss.backward()
    assert loss.item() == 0.0
    assert torch.isfinite(z.grad).all()


def test_one_by_one_without_a_negative_is_zero_and_pulls_nowhere():
    others = ~torch.eye(4, dtype=torch.bool)
    z = torch.randn(4, 3, requires_grad=True)
    loss = contrastive_loss(z, others, others, tau=0.1, one_by_one=True)
    loss.backward()
    assert loss.item() == 0.0
    assert (z.grad == 0).all()


def test_gradient_pulls_positives_and_pushes_negatives():
    z = torch.randn(9, 6, generator=torch.Generator().manual_seed(3)).requires_grad_()
    pairs = triplet_pairs(3)

    def cosines(vectors):
        anchor, positive, negative = F.normalize(vectors, dim=1).split(3)
        return (anchor * positive).sum(1).mean(), (anchor * negative).sum(1).mean()

    before = cosines(z.detach())
    contrastive_loss(z, *pairs, tau=0.5).backward()
    after = cosines(z.detach() - 0.1 * z.grad)
    assert after[0] > before[0]
    assert after[1] < before[1]


def test_keys_of_another_network_are_moco_s_loss():
    generator = torch.Generator().manual_seed(4)
    queries, keys = torch.randn(3, 6, generator=generator), torch.randn(8, 6, generator=generator)
    positives = torch.zeros(3, 8, dtype=torch.bool)
    positives[:, :3] = torch.eye(3, dtype=torch.bool)
    compared = positives.clone()
    compared[:, 3:] = True
    q, k = F.normalize(queries.double(), dim=1), F.normalize(keys.double(), dim=1)
    terms = []
    for i in range(3):
        own, others = math.exp(float(q[i] @ k[i]) / 0.2), [math.exp(float(q[i] @ n) / 0.2) for n in k[3:]]
        terms.append(-math.log(own / (own + sum(others))))
    loss = contrastive_loss(queries, positives, compared, tau=0.2, keys=keys)
    assert float(loss) == pytest.approx(sum(terms) / 3, rel=1e-5)


def test_byol_loss_is_the_squared_distance_of_unit_vectors():
    p, z = torch.randn(5, 4, requires_grad=True), torch.randn(5, 4, requires_grad=True)
    loss = byol_loss(p, z)
    distance = (F.normalize(p, dim=1) - F.normalize(z, dim=1)).square().sum(1).mean()
    assert float(loss) == pytest.approx(float(distance), rel=1e-5)
    loss.backward()
    assert z.grad is None
    assert p.grad.abs().sum() > 0
