from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from captum.attr import LayerGradCam
from torch import nn

from frugalseg.models import resnet
from frugalseg.sam_mix.classifier import Classifier, balanced_alpha, focal_loss
from frugalseg.sam_mix.prompts import stretch_to_unit_range


@pytest.mark.parametrize(("stride", "cells"), [(32, 8), (16, 16)])
def test_resnet38_has_38_layers_and_the_cells_of_its_stride(monkeypatch, stride, cells):
    monkeypatch.setattr(resnet, "PLANES", (64, 128, 256, 512))
    with torch.device("meta"):
        network = Classifier(1, stride=stride)
        maps = network.maps(torch.empty(1, 1, 256, 256))
    layers = [m for name, m in network.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear)) and "downs" not in name]
    assert len(layers) == 38
    assert maps.shape == (1, 2048, cells, cells)
    # ResNet-50's 23,508,032 without its head, a grey stem, 1 + 3 blocks fewer in stages 2 and 3, one logit.
    fewer = 280_064 + 3 * 1_117_184
    assert sum(p.numel() for p in network.parameters()) == 23_508_032 - 2 * 64 * 49 - fewer + 2049


def test_grad_cam_is_captum_s():
    torch.manual_seed(0)
    network = Classifier(3, size=96).eval()
    slices = torch.rand(2, 1, 96, 96)
    ours = network.grad_cam(network.maps(slices))
    captum = LayerGradCam(network, network.encoder.layer4)
    for organ in range(3):
        theirs = captum.attribute(slices, target=organ, relu_attributions=True)[:, 0]
        assert torch.allclose(ours[:, organ], theirs, atol=1e-7, rtol=1e-4)
    assert (ours > 0).any()


def test_grad_cam_of_a_known_linear_head_is_the_closed_form():
    network = Classifier(1, size=64)
    maps = torch.zeros(1, network.encoder.embedding_dim, 2, 2)
    maps[0, 0], maps[0, 1] = torch.tensor([[1.0, 2], [0, 4]]), torch.tensor([[3.0, 0], [0, 0]])
    with torch.no_grad():
        network.head.weight.zero_()
        network.head.weight[0, :2] = torch.tensor([2.0, -1.0])
    assert torch.equal(network.grad_cam(maps)[0, 0], torch.tensor([[0.0, 4], [0, 8]]) / 4)
    assert torch.equal(stretch_to_unit_range(network.grad_cam(maps))[0, 0], torch.tensor([[0.0, 0.5], [0, 1]]))


def test_slices_of_any_size_are_seen_at_the_classifier_s():
    network = Classifier(2, size=64).eval()
    with torch.no_grad():
        assert network.maps(torch.rand(1, 1, 48, 48)).shape[-2:] == (4, 4)
        assert network(torch.rand(1, 1, 128, 128)).shape == (1, 2)


@pytest.mark.parametrize("alpha", [0.25, 0.5])
def test_focal_loss_is_the_formula(alpha):
    logits, present = torch.tensor([[2.0], [-1.0], [0.3]]), torch.tensor([[1.0], [0.0], [0.0]])
    p = torch.sigmoid(logits)
    right = torch.where(present == 1, p, 1 - p)
    weight = torch.where(present == 1, alpha, 1 - alpha)
    assert torch.allclose(focal_loss(logits, present, [alpha], 2.0), (-weight * (1 - right) ** 2 * right.log()).mean())
    plain = F.binary_cross_entropy_with_logits(logits, present)
    assert torch.allclose(focal_loss(logits, present, [0.5], 0.0), plain / 2)


def test_focal_loss_is_finite_where_the_classifier_is_certain():
    logits = torch.tensor([[200.0, -200.0]], requires_grad=True)
    loss = focal_loss(logits, torch.tensor([[0.0, 0.0]]), [0.25, 0.25], 2.0)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


def test_rare_organs_get_the_focal_loss_s_own_alpha():
    assert [balanced_alpha(share) for share in (0.1, 0.25, 0.6, 0.9)] == [0.25, 0.5, 0.5, 0.25]
