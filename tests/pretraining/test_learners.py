"""Each method's loss against loops in float64, and where its gradient goes."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from frugalseg.models.heads import byol_head
from frugalseg.options import PretrainOptions
from frugalseg.pretraining import pair_rules
from frugalseg.pretraining.learners import ClassificationLearner, InBatchLearner, TripletLearner
from frugalseg.pretraining.methods import METHODS, LearnerSettings
from frugalseg.pretraining.momentum import BYOL, MoCo, update_momentum_encoder
from tests.pretraining.metadata import make_metadata
from tests.pretraining.test_loss import naive


class TinyNet(nn.Module):
    """Images (B, 1, 4, 4) to vectors; stands for encoder and head."""

    def __init__(self, dim=5):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(16, 7), nn.Tanh(), nn.Linear(7, dim))

    def forward(self, x):
        return self.layers(x)


def options(**changes):
    return PretrainOptions(data=Path("store"), out=Path("run"), **changes)


FACTS = make_metadata([0] * 4 + [1] * 4, [[0, 1], [1, 1], [1, 1], [0, 1], [1, 1], [0, 1], [0, 0], [0, 1]])


def drawn(rows, seed=0):
    return torch.rand(len(rows), 1, 4, 4, generator=torch.Generator().manual_seed(seed)), torch.tensor(rows)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


IN_BATCH = {
    "polycl-o-batch": pair_rules.organs_in_batch,
    "polycl-s-batch": pair_rules.scan_in_batch,
    "polycl-m-batch": pair_rules.both_in_batch,
    "simclr": pair_rules.same_slice,
    "supcon": pair_rules.same_organs,
    "pcl": pair_rules.near_position,
    "gcl": pair_rules.same_quarter,
}


@pytest.mark.parametrize("method", IN_BATCH)
def test_in_batch_methods_are_the_loss_over_their_rule(method):
    chosen = METHODS[method]
    learner = chosen.learner(TinyNet(), LearnerSettings(options(method=method), chosen.recipe.tau, 10, chosen.views))
    assert isinstance(learner, InBatchLearner)
    images, rows = drawn(list(range(8)) * chosen.views)
    outputs = learner(images)
    found = learner.losses(outputs, FACTS, rows)
    positives, compared = IN_BATCH[method](FACTS.select(rows), options())
    expected = naive(outputs, positives, compared, chosen.recipe.tau, one_by_one=method == "gcl")
    assert found["loss"].item() == pytest.approx(expected, rel=1e-4)
    assert found["anchors"].item() == pytest.approx(positives.any(1).float().mean().item())
    assert found["empty"].item() == 0
    found["loss"].backward()
    assert all(p.grad.abs().sum() > 0 for p in learner.parameters())


@pytest.mark.parametrize("method", ["polycl-o", "polycl-s", "polycl-m", "random-pairs"])
def test_triplet_methods_are_polycls_formula(method):
    learner = METHODS[method].learner(TinyNet(), LearnerSettings(options(), 0.05, 10, 1))
    assert isinstance(learner, TripletLearner)
    images, rows = drawn([0, 4, 3, 5, 1, 2])  # two anchors, their positives, their negatives
    z = F.normalize(learner(images).detach().double(), dim=1)
    terms = []
    for a in range(2):
        near, far = math.exp(float(z[a] @ z[a + 2]) / 0.05), math.exp(float(z[a] @ z[a + 4]) / 0.05)
        terms.append(-math.log(near / (near + far)))
    assert learner.losses(learner(images), FACTS, rows)["loss"].item() == pytest.approx(sum(terms) / 2, rel=1e-3)


def test_a_batch_without_pairs_adds_nothing_and_is_counted():
    learner = InBatchLearner(TinyNet(), pair_rules.both_in_batch, options(), 0.1, 1)
    images, rows = drawn([0, 1, 6, 7])  # in either scan one slice with these organs, one without
    found = learner.losses(learner(images), FACTS, rows)
    found["loss"].backward()
    assert found["loss"].item() == 0
    assert found["empty"].item() == 1
    assert all(p.grad.abs().sum() == 0 for p in learner.parameters())


def test_classify_is_binary_cross_entropy_per_organ():
    learner = ClassificationLearner(TinyNet(dim=2))
    images, rows = drawn([0, 1, 6])
    logits = learner(images).detach()
    terms = []
    for i, row in enumerate(rows.tolist()):
        for organ in range(2):
            p = 1 / (1 + math.exp(-float(logits[i, organ])))
            terms.append(-math.log(p if FACTS.present[row, organ] else 1 - p))
    found = learner.losses(logits, FACTS, rows)
    assert found["loss"].item() == pytest.approx(sum(terms) / 6, rel=1e-5)
    right = ((logits > 0).float() == FACTS.present[rows]).float().mean()
    assert found["accuracy"].item() == right.item()


def test_gcl_is_its_published_formula_and_is_not_gathered_twice():
    """Five scans, whose quarters lie each in one place, 84 degrees from all others: −log e^s+ / (e^s+ + Σ e^s−) is then
    nearly 0; with the other positives in the denominator it could not fall below log 9."""
    metadata = make_metadata([scan for scan in range(5) for _ in range(4)], [[1]] * 20)
    rows = torch.arange(20).repeat(2)
    places = torch.linalg.cholesky(0.9 * torch.eye(4) + 0.1)
    z = places[metadata.quarter[rows]]
    learner = METHODS["gcl"].learner(TinyNet(), LearnerSettings(options(method="gcl"), 0.1, 10, 2))
    found = learner.losses(z, metadata, rows)["loss"].item()

    terms = []
    for a in range(40):
        same = (metadata.quarter[rows] == metadata.quarter[rows[a]]).tolist()
        negatives = sum(math.exp(float(z[a] @ z[b]) / 0.1) for b in range(40) if not same[b])
        for p in range(40):
            if p != a and same[p]:
                own = math.exp(float(z[a] @ z[p]) / 0.1)
                terms.append(-math.log(own / (own + negatives)))
    assert found == pytest.approx(sum(terms) / len(terms), abs=1e-6)
    assert found == pytest.approx(0.0037, abs=5e-5)
    together = InBatchLearner(TinyNet(), pair_rules.same_quarter, options(), 0.1, 2).losses(z, metadata, rows)["loss"]
    assert together.item() == pytest.approx(2.198, abs=1e-3)


def moco(queue=5, momentum=0.9):
    return MoCo(TinyNet(), dim=5, queue=queue, momentum=momentum, tau=0.2)


def test_moco_equals_the_published_formula_over_several_steps_of_its_queue():
    learner = moco()
    optimizer = torch.optim.SGD(learner.network.parameters(), 0.1)
    slow, remembered = copy.deepcopy(learner.network), []
    for step, slices in enumerate([[0, 1], [2, 3], [4, 0], [1, 5]]):
        images, rows = drawn(slices * 2, seed=step)
        found = learner.losses(learner(images), FACTS, rows)["loss"]
        q = F.normalize(learner.network(images[:2]).detach().double(), dim=1)
        k = F.normalize(slow(images[2:]).detach().double(), dim=1)
        terms = []
        for i, row in enumerate(slices):
            own = float(q[i] @ k[i]) / 0.2
            others = [float(q[i] @ key) / 0.2 for key, of in remembered if of != row]
            terms.append(-own + math.log(sum(map(math.exp, [own, *others]))))
        assert found.item() == pytest.approx(sum(terms) / 2, abs=1e-5)
        found.backward()
        optimizer.step()
        optimizer.zero_grad()
        learner.after_step()
        with torch.no_grad():
            for mine, fast in zip(slow.parameters(), learner.network.parameters(), strict=True):
                mine.mul_(0.9).add_(fast, alpha=0.1)
        remembered = [*remembered, *zip(k, slices, strict=True)][-5:]
        pairs = zip(slow.parameters(), learner.slow.parameters(), strict=True)
        assert all(torch.allclose(mine, its, atol=1e-6) for mine, its in pairs)
    assert sorted(learner.queue_rows.tolist()) == sorted(row for _, row in remembered)


def test_moco_queue_smaller_than_a_batch_keeps_the_latest():
    learner = moco(queue=3)
    images, rows = drawn([0, 1, 2, 3] * 2)
    learner.losses(learner(images), FACTS, rows)
    learner.after_step()
    assert sorted(learner.queue_rows.tolist()) == [1, 2, 3]


def test_no_gradient_reaches_the_slow_copies():
    for learner in (moco(), BYOL(TinyNet(), nn.Linear(5, 5), None, 10)):
        for step in range(2):  # MoCo's first step has an empty queue and nothing to repel
            images, rows = drawn([0, 1, 2] * 2, seed=step)
            learner.before_step(step)
            learner.losses(learner(images), FACTS, rows)["loss"].backward()
            learner.after_step()
        assert all(p.grad is None and not p.requires_grad for p in learner.slow.parameters())
        assert all(p.grad.abs().sum() > 0 for p in learner.network.parameters())


def test_byol_compares_each_prediction_with_the_other_view():
    learner = BYOL(TinyNet(), nn.Linear(5, 5), None, 10)
    with torch.no_grad():
        for p in learner.slow.parameters():
            p.add_(0.1 * torch.randn_like(p))
    images, rows = drawn([0, 1, 2] * 2)
    p = F.normalize(learner.predictor(learner.network(images)).detach().double(), dim=1)
    z = F.normalize(learner.slow(images).double(), dim=1)
    terms = [2 - 2 * float(p[i] @ z[3 + i]) for i in range(3)] + [2 - 2 * float(p[3 + i] @ z[i]) for i in range(3)]
    assert learner.losses(learner(images), FACTS, rows)["loss"].item() == pytest.approx(sum(terms) / 6, rel=1e-4)


def test_byol_momentum_rises_along_its_cosine_unless_one_is_given():
    learner = BYOL(TinyNet(), nn.Linear(5, 5), None, 100)
    assert learner.momentum_at(0) == pytest.approx(0.99)
    assert learner.momentum_at(50) == pytest.approx(0.995)
    assert learner.momentum_at(100) == pytest.approx(1.0)
    assert BYOL(TinyNet(), nn.Linear(5, 5), 0.5, 100).momentum_at(70) == 0.5


def test_follow_is_a_moving_average():
    slow, fast = nn.Linear(2, 2), nn.Linear(2, 2)
    expected = 0.75 * slow.weight.detach() + 0.25 * fast.weight.detach()
    update_momentum_encoder(slow, fast, 0.25)
    assert torch.allclose(slow.weight, expected)


def test_byol_head_and_predictor_stay_out_of_what_is_saved():
    """The network alone is the result: its names must be those that fine-tuning looks for."""
    learner = BYOL(TinyNet(), nn.Linear(5, 5), None, 10)
    assert all(name.startswith("layers.") for name in learner.network.state_dict())


FACTS_OF_MANY = make_metadata([0] * 24, [[0]] * 24)
PICTURES = torch.randn(24, 8, generator=torch.Generator().manual_seed(9))


def pictures_of(rows, generator):
    """Half of each image is what the slice is, half is chance, and chance is louder."""
    chance = 2.5 * torch.randn(len(rows), 8, generator=generator)
    return torch.cat([PICTURES[rows], chance], dim=1).view(-1, 1, 4, 4)


def found_first(network):
    """Share of slices whose other view is the most similar of all."""
    generator = torch.Generator().manual_seed(8)
    with torch.no_grad():
        first, second = (F.normalize(network(pictures_of(torch.arange(24), generator)), dim=1) for _ in range(2))
    return ((first @ second.T).argmax(dim=1) == torch.arange(24)).float().mean().item()


@pytest.mark.parametrize("method", ["simclr", "moco", "byol"])
def test_methods_on_views_learn_what_two_views_share(method):
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 32))
    learner = {
        "simclr": lambda: InBatchLearner(network, pair_rules.same_slice, options(), 0.1, 2),
        "moco": lambda: MoCo(network, dim=32, queue=48, momentum=0.9, tau=0.2),
        "byol": lambda: BYOL(network, byol_head(32, 64, 32), 0.9, 400),
    }[method]()
    before = found_first(network)
    optimizer = torch.optim.Adam([p for p in learner.parameters() if p.requires_grad], 3e-3)
    generator = torch.Generator().manual_seed(7)
    for step in range(400):
        learner.before_step(step)
        rows = torch.randperm(24, generator=generator)[:12].repeat(2)
        learner.losses(learner(pictures_of(rows, generator)), FACTS_OF_MANY, rows)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        learner.after_step()
    assert before < 0.4
    assert found_first(network) > 0.8
