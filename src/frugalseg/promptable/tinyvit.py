"""TinyViT (arXiv 2207.10666) as in LiteMedSAM: no reduction in the stem, output at a quarter of the image's side.

For inference: every batch norm is folded into the convolution before it, see `fold_norms`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frugalseg.promptable.cpu_inference import gelu_of, is_quick, linear
from frugalseg.promptable.state_dict_keys import Rules
from frugalseg.promptable.window_attention import attend_in_windows

BATCH_NORM_EPS = 1e-5


class TinyViT(nn.Module):
    """Images → the feature map for SAM's decoder.

    The stages work at 1, 1/2, 1/4 and 1/4 of the image's side: one of convolutions, three of window attention.

    Args:
        widths, depths: channels and blocks of the four stages.
        heads, windows: heads and window sides of the three stages of attention.
        outputs: channels of the map.
    """

    def __init__(
        self,
        widths: tuple[int, int, int, int] = (64, 128, 160, 320),
        depths: tuple[int, int, int, int] = (2, 2, 6, 2),
        heads: tuple[int, int, int] = (4, 5, 10),
        windows: tuple[int, int, int] = (7, 14, 7),
        outputs: int = 256,
    ) -> None:
        super().__init__()
        half = widths[0] // 2
        self.stem = nn.Sequential(nn.Conv2d(3, half, 1), nn.GELU(), nn.Conv2d(half, widths[0], 1))
        self.convolutions = nn.Sequential(*(InvertedBottleneck(widths[0]) for _ in range(depths[0])))
        self.reductions = nn.ModuleList(
            Reduction(widths[i], widths[i + 1], stride) for i, stride in enumerate((2, 2, 1))
        )
        self.stages = nn.ModuleList(
            nn.Sequential(*(TinyViTBlock(widths[i + 1], heads[i], windows[i]) for _ in range(depths[i + 1])))
            for i in range(3)
        )
        self.neck = nn.Sequential(
            nn.Conv2d(widths[3], outputs, 1, bias=False),
            ChannelNorm(outputs),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            ChannelNorm(outputs),
        )

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S), S a multiple of 4 → (B, outputs, S/4, S/4)."""
        x = self.convolutions(self.stem(images.contiguous(memory_format=torch.channels_last)))
        for reduction, stage in zip(self.reductions, self.stages, strict=True):
            x = stage(reduction(x))
        encoded: Tensor = self.neck(x)
        return encoded


class InvertedBottleneck(nn.Module):
    """1×1 convolution to four times the channels, depthwise 3×3, 1×1 back; with a residual connection."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(width, 4 * width, 1)
        self.mix = nn.Conv2d(4 * width, 4 * width, 3, padding=1, groups=4 * width)
        self.project = nn.Conv2d(4 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C, H, W)."""
        return F.gelu(x + self.project(gelu_of(self.mix, gelu_of(self.expand, x))))


class Reduction(nn.Module):
    """Patch merging to the next stage's channels and resolution."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(inputs, outputs, 1)
        self.mix = nn.Conv2d(outputs, outputs, 3, stride=stride, padding=1, groups=outputs)
        self.project = nn.Conv2d(outputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) → (B, outputs, H/stride, W/stride)."""
        reduced: Tensor = self.project(gelu_of(self.mix, gelu_of(self.expand, x)))
        return reduced


class TinyViTBlock(nn.Module):
    """Window attention and a two-layer perceptron, each with a residual connection; between them a depthwise 3×3."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.attention = WindowAttention(width, heads, window)
        self.mix = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C, H, W)."""
        tokens = x.permute(0, 2, 3, 1)
        tokens = tokens + (self.attention.of_map(tokens) if is_quick(tokens) else self._attend_in_windows(tokens))
        tokens = self.mix(tokens.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        added: Tensor = tokens + linear(self.fc2, gelu_of(self.fc1, self.norm(tokens)))
        return added.permute(0, 3, 1, 2)

    def _attend_in_windows(self, tokens: Tensor) -> Tensor:
        """Attention of (B, H, W, C) in windows; the last ones are zero-padded, without a mask, as in training."""
        batch, height, width, channels = tokens.shape
        side = self.window
        tokens = F.pad(tokens, (0, 0, 0, -width % side, 0, -height % side))
        down, across = tokens.shape[1] // side, tokens.shape[2] // side
        windows = tokens.reshape(batch, down, side, across, side, channels).transpose(2, 3)
        attended: Tensor = self.attention(windows.reshape(-1, side * side, channels))
        attended = attended.reshape(batch, down, across, side, side, channels).transpose(2, 3)
        return attended.reshape(batch, down * side, across * side, channels)[:, :height, :width]


class WindowAttention(nn.Module):
    """Multi-head self-attention with a learned bias per head for every distance (|Δrow|, |Δcolumn|)."""

    distance: Tensor

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.biases = nn.Parameter(torch.zeros(heads, window * window))
        rows, columns = torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
        offsets = [(axis.flatten()[:, None] - axis.flatten()).abs() for axis in (rows, columns)]
        self.register_buffer("distance", offsets[0] * window + offsets[1], persistent=False)

    def forward(self, windows: Tensor) -> Tensor:
        """(N, window², C) → (N, window², C)."""
        count, places, width = windows.shape
        # Queries, keys and values of one head are adjacent.
        parts = self.qkv(self.norm(windows)).reshape(count, places, self.heads, 3, width // self.heads)
        q, k, v = parts.permute(3, 0, 2, 1, 4)
        # With four axes and the dtype of q, PyTorch uses its fast kernel.
        biases = self.biases[None, :, self.distance].to(q.dtype)
        if q.requires_grad and q.device.type == "cpu":
            # The backward pass of PyTorch's fused attention is slow on a CPU: three to seven times slower in bf16.
            weights = (q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1) + biases).softmax(dim=-1)
            mixed = weights.to(v.dtype) @ v
        else:
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=biases)
        attended: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return attended

    def of_map(self, tokens: Tensor) -> Tensor:
        """(B, H, W, C) → the same as of its zero-padded windows, where `is_quick`."""
        projected = linear(self.qkv, self.norm(tokens))
        filler = linear(self.qkv, self.norm(tokens.new_zeros(1, tokens.shape[-1])))[0]
        mixed = attend_in_windows(projected, filler, self.biases[:, self.distance], self.window)
        return linear(self.out, mixed)


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of a map."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C, H, W)."""
        normed: Tensor = super().forward(x.permute(0, 2, 3, 1))
        return normed.permute(0, 3, 1, 2)


PUBLISHED_NAMES: Rules = (
    (r"^image_encoder\.patch_embed\.seq\.", "image_encoder.stem."),
    (r"^image_encoder\.layers\.0\.blocks\.", "image_encoder.convolutions."),
    (r"^image_encoder\.layers\.(\d)\.downsample\.", r"image_encoder.reductions.\1."),
    *((rf"^image_encoder\.layers\.{i + 1}\.blocks\.", f"image_encoder.stages.{i}.") for i in range(3)),
    (r"^(image_encoder\..+)\.conv1\.", r"\1.expand."),
    (r"^(image_encoder\..+)\.(conv2|local_conv)\.", r"\1.mix."),
    (r"^(image_encoder\..+)\.conv3\.", r"\1.project."),
    (r"^(image_encoder\..+)\.attn\.attention_biases$", r"\1.attention.biases"),
    (r"^(image_encoder\..+)\.attn\.proj\.", r"\1.attention.out."),
    (r"^(image_encoder\..+)\.attn\.", r"\1.attention."),
    (r"^(image_encoder\..+)\.mlp\.", r"\1."),
)
"""From the names in the published file, with folded norms, to those of a `TinyViT` named image_encoder."""


def fold_norms(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published weights with each batch norm (`X.bn`) folded into its convolution (`X.c`), which becomes `X`.

    Norms without a convolution, and convolutions without a complete norm, are unchanged.
    """
    folded = dict(weights)
    for name in weights:
        base = name.removesuffix(".c.weight")
        norm = [f"{base}.bn.{entry}" for entry in ("weight", "bias", "running_mean", "running_var")]
        if base == name or not all(entry in folded for entry in norm):
            continue
        kernel = folded.pop(name)
        scale, shift, mean, variance = (folded.pop(entry) for entry in norm)
        folded.pop(f"{base}.bn.num_batches_tracked", None)
        factor = scale / (variance + BATCH_NORM_EPS).sqrt()
        folded[f"{base}.weight"] = kernel * factor.reshape(-1, 1, 1, 1)
        folded[f"{base}.bias"] = shift - mean * factor
    return folded
