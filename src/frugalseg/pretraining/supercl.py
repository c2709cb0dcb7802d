"""SuperCL: contrast between slices, and between pixels of different superpixels (arXiv 2504.14737, and its code).

    L = L_ins + λ_intra · L_intra + λ_inter · L_inter

Each slice has four views: I1, I2 with changed intensities only, and V1, V2, which are I1, I2 transformed spatially.
Every term is the contrastive loss of `pretraining.loss`:

| term | compares | positives |
|---|---|---|
| L_ins (PCL) | slices, by V1, V2 | at about the same height, or the other view |
| L_intra (ILCP) | pixels of a slice, by I1, I2 | in the same superpixel |
| L_inter (IGCP) | slices, by V1, V2 | in the same group (CCL) by superpixel maps (ASP) of I1, I2, or the other view |

Superpixels are not needed for V1, V2.

L_intra is a mean over slices, so a random fraction of them in each step estimates it and its gradient without bias
(except for batch norm statistics), and I1, I2 of the other slices need no backward pass through the encoder (option
`intra_slices`; by default all slices are compared, as published).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frugalseg.dataset.superpixels import Slic
from frugalseg.errors import OptionError
from frugalseg.models.blocks import ProjectionNet, pad_to_multiple
from frugalseg.options import PretrainOptions
from frugalseg.pretraining.gather import all_gather
from frugalseg.pretraining.learners import Learner
from frugalseg.pretraining.loss import contrastive_loss
from frugalseg.pretraining.pair_rules import near_position
from frugalseg.pretraining.passes import group_into_passes
from frugalseg.pretraining.slice_metadata import SliceMetadata

CELL_STRIDE = 16
"""The published code samples every 16th cell: two columns of a map 32 cells wide."""

PIXEL_DIM = 128


class ViewFeatures(NamedTuple):
    """Outputs of the network for the four views of B slices.

    Attributes:
        slices: (2B, D) vectors of V1, then V2.
        compared: (K,) int64, the slices whose pixels L_intra compares.
        pixels: (2K, C, h, w) vectors of the cells of I1, then of I2, of those slices.
        means: (2B, h', w') mean over the channels of the coarsest map of every slice's I1, then I2; without gradient.
        superpixels: (2B, S, S) of I1, then I2, where they are computed in each step; else None.
    """

    slices: Tensor
    compared: Tensor
    pixels: Tensor
    means: Tensor
    superpixels: Tensor | None


class SuperCL(Learner):
    """The network and, where pixels of a finer map than the coarsest are compared, their projection.

    Args:
        network: of any backbone whose coarsest map has 1/`stride` of the side of its input.
        options: intra_slices, pixel_map, max_pixels, pixel_sample, asp_norm, superpixels, and the weights of the terms.
        tau: temperature of all terms.
    """

    def __init__(self, network: ProjectionNet, options: PretrainOptions, tau: float) -> None:
        super().__init__(network, views=4)
        self.options, self.tau = options, tau
        self.level, self.project = -1, nn.Module()
        if options.pixel_map == "quarter":
            self.level = _find_quarter_level(network, options)
            self.project = nn.Conv2d(network.encoder.channels[self.level], PIXEL_DIM, 1)
        else:
            self.project = nn.Identity()

    @property
    def graphable(self) -> bool:
        """Where superpixels are read from the store: the CPU computes those of every step (`--superpixels online`)."""
        return self.options.superpixels != "online"

    def forward(self, images: Tensor) -> ViewFeatures:
        """(4B, C, S, S): V1, V2, I1, I2 of B slices."""
        encoder, half = self.network.encoder, len(images) // 2
        grown, _ = pad_to_multiple(images, encoder.stride)
        moved, in_place = grown[:half].chunk(2), grown[half:].chunk(2)
        compared = sample_slices(half // 2, self.options.intra_slices, images.device)
        if 2 * len(compared) == half:
            vectors, pixels, coarsest = self._encode_views(*moved, *in_place)
            coarsest = coarsest[half:]
        else:
            vectors, pixels, _ = self._encode_views(*moved, *(view[compared] for view in in_place))
            # All of I1, I2 again, not only the others: batch norm would scale the two parts differently, and ASP find
            # slices similar because they were in the same part.
            with torch.no_grad(), _without_dropout(encoder):
                _, _, coarsest = self._encode_views(*in_place)
        online = None
        if self.options.superpixels == "online":
            online = _compute_superpixels(images[half:], self.options)
        return ViewFeatures(
            slices=self.network.head(vectors[:half]),
            compared=compared,
            pixels=self.project(pixels[half:]),
            means=coarsest.detach().mean(dim=1),
            superpixels=online,
        )

    def _encode_views(self, *views: Tensor) -> tuple[Tensor, ...]:
        """Embeddings before the head, maps whose pixels are compared, and coarsest maps, of all views in turn."""
        encoder, seen = self.network.encoder, []
        for images in group_into_passes(encoder, views):
            features = encoder(images)
            seen.append((encoder.embed(features), features[self.level], features[-1]))
        return tuple(torch.cat(parts) for parts in zip(*seen, strict=True))

    def losses(
        self, outputs: ViewFeatures, metadata: SliceMetadata, rows: Tensor, superpixels: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The loss, its three terms, and how many groups CCL finds in the batch."""
        maps = outputs.superpixels
        if maps is None:
            assert superpixels is not None  # `reads_superpixels` makes the task's source load them
            maps = superpixels.repeat(2, 1, 1)
        stride = self.network.encoder.stride
        first, second = outputs.pixels.chunk(2)
        chosen = sample_cells(first, self.options.max_pixels, self.options.pixel_sample)
        labels = superpixels_of_cells(maps[outputs.compared], stride, first.shape[-2:])
        intra = pixel_loss(first, second, labels, chosen, self.tau)

        seen = metadata.select(all_gather(rows[: len(outputs.slices)]))
        slices = all_gather(outputs.slices)
        near, others = near_position(seen, self.options)
        instance = contrastive_loss(slices, near, others, self.tau)

        coarse = superpixels_of_cells(maps, stride, outputs.means.shape[-2:])
        average = superpixel_means(outputs.means, coarse, self.options.asp_norm)
        groups = nearest_neighbour_groups(all_gather(average))
        same_slice = seen.row[:, None] == seen.row[None, :]
        alike = ((groups[:, None] == groups[None, :]) | same_slice) & others
        inter = contrastive_loss(slices, alike, others, self.tau)

        return {
            "loss": instance + self.options.intra_weight * intra + self.options.inter_weight * inter,
            "instance_loss": instance,
            "intra_loss": intra,
            "inter_loss": inter,
            "groups": (groups == torch.arange(len(groups), device=groups.device)).float().sum(),
        }


@contextmanager
def _without_dropout(encoder: nn.Module) -> Iterator[None]:
    """Disable dropout: in a pass without gradients it only adds noise, and takes a third of a U-Net's time."""
    layers = [layer for layer in encoder.modules() if isinstance(layer, nn.Dropout) and layer.training]
    for layer in layers:
        layer.eval()
    try:
        yield
    finally:
        for layer in layers:
            layer.train()


def _find_quarter_level(network: ProjectionNet, options: PretrainOptions) -> int:
    """Index of the encoder's map whose side is a quarter of its input's."""
    side = 2 * network.encoder.stride
    was_training = network.training
    network.eval()
    with torch.no_grad():
        features = network.encoder(torch.zeros(1, 1 + 2 * (options.context or 0), side, side))
    network.train(was_training)
    for level, feature in enumerate(features):
        if 4 * feature.shape[-1] == side:
            return level
    raise OptionError(
        f"--pixel-map quarter: {options.backbone} has no map of a quarter of the slice's side", "use coarsest"
    )


def _compute_superpixels(images: Tensor, options: PretrainOptions) -> Tensor:
    """(N, C, S, S) → (N, S, S) SLIC superpixels of the middle channels; in every step, as published."""
    slic = Slic.for_size(images.shape[-1], options.segments, options.compactness)
    pictures = images[:, images.shape[1] // 2].float().cpu().numpy()
    with ThreadPoolExecutor() as pool:
        maps = np.stack(list(pool.map(slic, pictures)))
    return torch.from_numpy(maps.astype(np.int16)).to(images.device)


def superpixels_of_cells(superpixels: Tensor, stride: int, shape: tuple[int, int] | torch.Size) -> Tensor:
    """(N, S, S) superpixels → (N, h, w) int64, at the centre of each cell of a feature map (nearest neighbour).

    Args:
        superpixels: from 0 in each slice.
        stride: the encoder pads images to multiples of it; the padding is a separate superpixel.
        shape: (h, w) of the map.
    """
    grown, _ = pad_to_multiple(superpixels.long() + 1, stride)
    height, width = shape
    rows = (torch.arange(height, device=grown.device) + 0.5) * (grown.shape[-2] / height)
    columns = (torch.arange(width, device=grown.device) + 0.5) * (grown.shape[-1] / width)
    return grown[:, rows.long()[:, None], columns.long()[None, :]]


def sample_slices(batch: int, share: float, device: torch.device) -> Tensor:
    """(K,) int64, K = `share` · `batch` rounded and at least 1: distinct slices, drawn from PyTorch's generator.

    Where K = `batch`, all slices in order; no random number is drawn.
    """
    count = max(1, round(share * batch))
    if count >= batch:
        return torch.arange(batch, device=device)
    return torch.rand(batch, device=device).argsort()[:count]


def sample_cells(maps: Tensor, pixels: int, how: Literal["random", "stride"]) -> Tensor:
    """(N, k) int64, of each of N maps (N, C, h, w) k ≤ `pixels` different cells, drawn from PyTorch's generator.

    stride: every 16th cell in reading order, the same in every map, as published.
    """
    count = maps.shape[-2] * maps.shape[-1]
    if how == "stride":
        return torch.arange(0, count, CELL_STRIDE, device=maps.device).expand(len(maps), -1)
    return torch.rand(len(maps), count, device=maps.device).argsort(dim=1)[:, :pixels]


def pixel_loss(first: Tensor, second: Tensor, labels: Tensor, chosen: Tensor, tau: float) -> Tensor:
    """L_intra (ILCP) over the chosen cells of both views of a slice; cells of the same superpixel attract.

    Every cell has the same cell of the other view as a positive, so the mean over all anchors is the mean of the
    slices' means.

    Args:
        first, second: (B, C, h, w) of I1 and I2.
        labels: (B, h, w) superpixel of each cell.
        chosen: (B, k) cells in reading order.
        tau: temperature.
    """

    def select_cells(maps: Tensor) -> Tensor:
        flat = maps.flatten(2).mT
        return flat.gather(1, chosen.unsqueeze(-1).expand(-1, -1, flat.shape[-1]))

    vectors = torch.cat([select_cells(first), select_cells(second)], dim=1)
    label = labels.flatten(1).gather(1, chosen).repeat(1, 2)
    others = ~torch.eye(label.shape[1], dtype=torch.bool, device=label.device)
    same = (label[:, :, None] == label[:, None, :]) & others
    return contrastive_loss(vectors, same, others, tau)


def superpixel_means(maps: Tensor, labels: Tensor, norm: Literal["cluster", "global"]) -> Tensor:
    """ASP: each cell's mean over its superpixel.

    Args:
        maps: (N, h, w).
        labels: (N, h, w) superpixel of each cell.
        norm: cluster divides a superpixel's sum by the number of its cells; global, as published, by that of all cells
            of the map.

    Returns:
        (N, h·w) float32.
    """
    label, values = labels.flatten(1), maps.flatten(1).float()
    same = (label[:, :, None] == label[:, None, :]).float()
    with torch.autocast(values.device.type, enabled=False):
        sums = (same @ values.unsqueeze(-1)).squeeze(-1)
    return sums / (same.sum(dim=-1) if norm == "cluster" else label.shape[1])


def nearest_neighbour_groups(vectors: Tensor) -> Tensor:
    """CCL: (N, D) → (N,) int64, connected components of the graph of nearest neighbours by cosine.

    A component has the number of its first vector. All on the device, so that it can be part of a CUDA graph.
    """
    unit = F.normalize(vectors.float(), dim=1)
    similarity = (unit @ unit.T).fill_diagonal_(-torch.inf)
    place = torch.arange(len(unit), device=unit.device)
    nearest = similarity.argmax(dim=1)[:, None] == place[None, :]
    reached = (nearest | nearest.T | (place[:, None] == place[None, :])).float()
    for _ in range(math.ceil(math.log2(len(unit)))):  # every product doubles the length of the paths
        reached = (reached @ reached).clamp(max=1)
    return reached.argmax(dim=1)
