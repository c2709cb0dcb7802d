from __future__ import annotations

import pytest
import torch

from frugalseg.sam_mix.branch import SamBranch
from frugalseg.sam_mix.classifier import Classifier
from frugalseg.sam_mix.losses import map_loss, mask_losses, true_iou
from frugalseg.sam_mix.model import MixModel, PromptBatch, assign_classes
from frugalseg.sam_mix.prompts import MAX_SHIFT, boxes_of_cams, paired_box_iou
from tests.sam_mix.test_branch import tiny_sam


def model(organs=2):
    torch.manual_seed(0)
    return MixModel(Classifier(organs, 64), SamBranch(tiny_sam(), "decoder", 2, "mask", 0.4), 32, 0.4).eval()


def certain(mix, *logits):
    with torch.no_grad():
        mix.classifier.head.bias.copy_(torch.tensor(logits))
        mix.classifier.head.weight.mul_(1e-3)
    return mix


def test_pixels_go_to_the_organ_of_the_higher_score():
    planes = torch.zeros(1, 2, 2, 2)
    planes[0, 0, 0], planes[0, 1, :, 0] = 0.9, 0.6
    assert assign_classes(planes, torch.tensor([[-0.2, 0.8]]))[0].tolist() == [[2, 1], [2, 0]]
    assert assign_classes(planes, torch.tensor([[-0.2, -3.0]]))[0].tolist() == [[1, 1], [2, 0]]


def test_an_organ_is_segmented_only_where_the_classifier_detects_it():
    mix, slices = certain(model(), 5.0, -5.0), torch.rand(3, 1, 32, 32)
    found = mix.find(slices)
    assert found.organs.tolist() == [0, 0, 0]
    assert found.slices.tolist() == [0, 1, 2]
    assert found.logits.shape == (3, 4, 32, 32)
    assert found.classes().max() <= 1
    nothing = certain(model(), -5.0, -5.0).find(slices)
    assert len(nothing.slices) == 0
    assert nothing.classes().shape == (3, 32, 32)
    assert nothing.classes().max() == 0


def test_no_mask_where_the_map_is_flat_though_the_classifier_is_certain():
    mix = model(1)
    with torch.no_grad():
        mix.classifier.head.weight.zero_()
        mix.classifier.head.bias.fill_(5.0)
    assert mix.find(torch.rand(2, 1, 32, 32)).classes().max() == 0


def test_cached_maps_are_read_only_where_an_organ_is_segmented():
    mix, slices = certain(model(1), 0.0), torch.rand(6, 1, 32, 32)
    sought = mix.find(slices).slices
    prompts = []

    def kept(wanted):
        prompts.extend(wanted.tolist())
        return mix.encode(slices[wanted])

    found = mix.find(slices, kept)
    assert prompts == sought.tolist()
    assert torch.allclose(found.logits, mix.find(slices).logits, atol=1e-4)


def test_oracle_boxes_replace_the_classifiers():
    boxes, there = torch.zeros(2, 2, 4), torch.tensor([[False, True], [False, False]])
    boxes[0, 1] = torch.tensor([3.0, 4, 20, 30])
    found = certain(model(), -5.0, -5.0).find(torch.rand(2, 1, 32, 32), oracle=(boxes, there))
    assert (found.slices.tolist(), found.organs.tolist()) == ([0], [1])
    assert found.boxes.tolist() == [[3, 4, 20, 30]]


def test_a_mask_is_segmented_again_with_the_box_around_it(monkeypatch):
    mix, slices = certain(model(1), 5.0), torch.rand(2, 1, 32, 32)
    prompts = []

    def decode(maps, boxes, cams):
        """In the first slice always the same rectangle; in the second nothing."""
        prompts.append(boxes)
        logits = torch.full((2, 4, 32, 32), -5.0)
        logits[0, :, 8:12, 4:20] = 5.0
        return logits, torch.zeros(2, 4)

    monkeypatch.setattr(mix, "decode", decode)
    found = mix.find(slices)
    first, again = prompts
    assert torch.equal(first, classifiers_boxes(mix, slices))
    outward = 32 * MAX_SHIFT / 2
    torch.testing.assert_close(again[0], torch.tensor([4 - outward, 8 - outward, 20 + outward, 12 + outward]))
    assert torch.equal(again[1], first[1])
    assert torch.equal(found.boxes, first)
    mix.find(slices, oracle=(first[:, None], torch.ones(2, 1, dtype=torch.bool)))
    assert len(prompts) == 3  # the oracle's box is the last word


def classifiers_boxes(mix, slices):
    _, cams = mix._classify(slices)
    return boxes_of_cams(cams, mix.threshold)[0][:, 0]


def test_a_training_step_uses_the_mask_boxes_where_requested():
    mix = model(1)
    slices = torch.rand(2, 1, 32, 32)
    boxes = classifiers_boxes(mix, slices) + torch.tensor([2.0, 2, 0, 0])  # near enough to be a choice

    def ask(use_mask_box):
        return PromptBatch(slices, torch.tensor([0, 0]), boxes, torch.tensor(use_mask_box), None)

    with torch.no_grad():
        own, mixed, given = (mix(slices, slices[:0], ask(t))["masks"] for t in ([False] * 2, [True, False], [True] * 2))
    assert torch.allclose(mixed[0], given[0], atol=1e-5)
    assert torch.allclose(mixed[1], own[1], atol=1e-5)
    assert not torch.allclose(own[0], given[0], atol=1e-3)


def test_nothing_is_learned_from_a_box_of_the_classifier_that_misses_the_mask():
    mix = model(1)
    slices = torch.rand(2, 1, 32, 32)
    near = classifiers_boxes(mix, slices)
    boxes = torch.stack([near[0], torch.tensor([0.0, 0, 3, 3])])
    assert paired_box_iou(near, boxes)[1] < 0.5

    def masks(use_mask_box):
        with torch.no_grad():
            prompts = PromptBatch(slices, torch.tensor([0, 0]), boxes, torch.tensor([use_mask_box] * 2), None)
            return mix(slices, slices[:0], prompts)["masks"]

    assert torch.equal(masks(False), masks(True))


def test_loss_of_the_mask_with_the_highest_score():
    target = torch.zeros(1, 4, 4)
    target[0, :2] = 1
    right, wrong = 40 * target - 20, 20 - 40 * target
    logits, scores = torch.stack([wrong, right, wrong], dim=1), torch.tensor([[0.1, 0.9, 0.2]])
    parts = mask_losses(logits, scores, target)
    assert parts["dice_loss"] < 1e-6
    assert parts["ce_loss"] < 1e-6
    assert true_iou(logits, target).tolist() == [[0, 1, 0]]
    assert torch.allclose(parts["score_loss"], torch.tensor((0.01 + 0.01 + 0.04) / 3))
    assert torch.allclose(parts["loss"], parts["dice_loss"] + parts["ce_loss"] + 0.05 * parts["score_loss"])
    alone = mask_losses(logits, scores, target, "dice")
    assert torch.allclose(alone["loss"], parts["dice_loss"] + 0.05 * parts["score_loss"])
    assert mask_losses(logits, torch.tensor([[0.9, 0.1, 0.2]]), target)["dice_loss"] > 0.8


def test_gradients_reach_the_chosen_mask_and_all_scores():
    logits = torch.zeros(1, 3, 4, 4, requires_grad=True)
    scores = torch.tensor([[0.1, 0.5, 0.2]], requires_grad=True)
    mask_losses(logits, scores, torch.ones(1, 4, 4))["loss"].backward()
    assert logits.grad.abs().sum((0, 2, 3)).gt(0).tolist() == [False, True, False]
    assert scores.grad.abs().gt(0).all()


def test_the_maps_loss_is_the_dice_of_loops():
    cams, labels = torch.rand(3, 2, 6, 6), torch.randint(0, 3, (3, 6, 6))
    labels[1][labels[1] == 2] = 0  # a slice without the second organ
    labels[2] = 0
    terms = []
    for cam, label in zip(cams, labels, strict=True):
        for organ in (0, 1):
            if (label == organ + 1).any():
                both = sum(float(cam[organ, y, x]) for y in range(6) for x in range(6) if label[y, x] == organ + 1)
                square = sum(float(cam[organ, y, x]) ** 2 for y in range(6) for x in range(6))
                terms.append(1 - 2 * both / (square + int((label == organ + 1).sum())))
    assert len(terms) == 3
    assert map_loss(cams, labels).item() == pytest.approx(sum(terms) / 3, abs=1e-6)
    assert map_loss(cams, torch.zeros_like(labels)) == 0
    assert map_loss(cams[:0], labels[:0]) == 0


def test_the_map_loss_moves_the_map_to_the_organ():
    torch.manual_seed(0)
    mix = model(1).train()
    slices, labels = torch.rand(2, 1, 32, 32), torch.zeros(2, 32, 32, dtype=torch.long)
    labels[0, :12, :12], labels[1, 18:, 18:] = 1, 1
    prompts = PromptBatch(
        slices, torch.tensor([0, 0]), torch.tensor([[2.0, 3, 9, 9]] * 2), torch.tensor([True] * 2), None
    )
    optimizer = torch.optim.Adam(mix.classifier.parameters(), lr=1e-3)
    losses = []
    for _ in range(12):
        loss = map_loss(mix(slices[:0], slices, prompts)["cams"], labels)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.7 * losses[0]
