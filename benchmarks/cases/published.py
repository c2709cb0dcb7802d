"""Training steps as published programs are commonly written, for comparison.

Every item of a batch is read, converted and augmented separately on the host (here from arrays in memory, which is
faster than files on disk). Every part of a batch passes through the network by itself. Losses are loops over anchors
that compute exponentials and a logarithm. Everything is in float32, and the loss is read in every step. The networks
are frugalseg's with PyTorch's dropout, so that only the way of training differs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cases.data import kornia_robust
from cases.training import Passes
from inputs import store
from measure import Setting, Work, median_step

Image = np.ndarray[Any, np.dtype[np.float64]]
TAU = 0.05


def read(setting: Setting, size: int) -> tuple[Image, np.ndarray[Any, np.dtype[np.uint8]]]:
    """All slices and labels of the store, in memory."""
    from frugalseg.dataset.store import SliceStore

    slices = SliceStore.open(store(setting, size))
    return slices.images.astype(np.float64), np.array(slices.labels)


def draw(images: Image, batch: int, augmented: bool, rng: np.random.Generator) -> Tensor:
    """Random slices, one after the other; which ones does not matter for the time."""
    geometry, intensity = kornia_robust()
    items = []
    for row in rng.integers(0, len(images), batch):
        item = torch.from_numpy(images[row][None, None]).float()
        if augmented:
            item = intensity(geometry(item, torch.zeros_like(item))[0]).clamp(0, 1)
        items.append(item[0])
    return torch.stack(items)


def contrast(anchors: Tensor, positives: Tensor, negatives: Tensor | None = None) -> Tensor:
    """−log of the positive's share; without negatives, every anchor is compared with the positives of the others."""
    losses = []
    for i, anchor in enumerate(anchors):
        far = [p for j, p in enumerate(positives) if j != i] if negatives is None else [negatives[i]]
        near, *rest = (torch.exp(F.cosine_similarity(anchor, other, dim=0) / TAU) for other in [positives[i], *far])
        losses.append(-torch.log(near / (near + sum(rest))))
    return torch.stack(losses).mean()


def train(model: nn.Module, losses: Iterable[Callable[[], Tensor]], device: str) -> None:
    """Adam, one step per loss."""
    model.to(device).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    for loss in losses:
        value = loss()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        value.item()


def with_plain_dropout(network: nn.Module) -> nn.Module:
    """The network with PyTorch's dropout layers in place of frugalseg's."""
    for part in list(network.modules()):
        for name, layer in part.named_children():
            if isinstance(layer, nn.Dropout):
                setattr(part, name, nn.Dropout(layer.p))
    return network


def pretrain(setting: Setting, passes: Passes, size: int, batch: int, steps: int) -> Work:
    """A step of pre-training a U-Net."""
    from frugalseg.models.registry import build_projection

    device, images, rng = setting.device, read(setting, size)[0], np.random.default_rng(0)
    model = with_plain_dropout(build_projection("unet", "instance"))
    slow = deepcopy(model).to(device)

    def loss() -> Tensor:
        views = [draw(images, batch, passes.augmented, rng).to(device) for _ in range(max(passes.trained, 2))]
        embedded = [model(view) for view in views[: passes.trained]]
        if not passes.momentum:
            return contrast(*embedded)
        with torch.no_grad():
            targets = [slow(view) for view in views[-passes.momentum :]]
        return torch.stack([contrast(*pair) for pair in zip(embedded, targets, strict=True)]).sum()

    return lambda: median_step(lambda: train(model, [loss] * steps, device))


def finetune(setting: Setting, backbone: str, size: int, batch: int, steps: int) -> Work:
    """A step of fine-tuning with the augmentation of `robust`, and its loss computed slice by slice."""
    from frugalseg.models.registry import build_segmenter, choose_norm

    images, labels = read(setting, size)
    model = with_plain_dropout(build_segmenter(backbone, 1, choose_norm(backbone, None, "instance_affine")))
    rng, (geometry, intensity) = np.random.default_rng(0), kornia_robust()

    def pick(row: int) -> tuple[Tensor, Tensor]:
        pair = (torch.from_numpy(array[row][None, None].astype(np.float64)).float() for array in (images, labels))
        image, label = geometry(*pair)
        return intensity(image).clamp(0, 1)[0], label[0]

    def loss() -> Tensor:
        items = zip(*map(pick, rng.integers(0, len(images), batch)), strict=True)
        inputs, truths = (torch.stack(part).to(setting.device) for part in items)
        parts = []
        for logits, truth in zip(model(inputs), truths, strict=True):
            found = torch.sigmoid(logits)
            dice = (2 * (found * truth).sum() + 1) / (found.sum() + truth.sum() + 1)
            parts.append(1 - dice + F.binary_cross_entropy_with_logits(logits, truth))
        return torch.stack(parts).mean()

    return lambda: median_step(lambda: train(model, [loss] * steps, setting.device))
