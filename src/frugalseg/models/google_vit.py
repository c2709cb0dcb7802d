"""Google's published R50+ViT-B_16.npz (arXiv 2010.11929), the initial weights of TransUNet.

They were trained on colours in [−1, 1]. No folding is needed: standardised kernels have mean 0, so a shift of the whole
image affects only the border, and the group norm behind them removes any scale.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from frugalseg.errors import RunError
from frugalseg.models.blocks import Encoder
from frugalseg.models.vit import resample_positions
from frugalseg.models.weight_files import load_strictly, read_arrays
from frugalseg.records.networks import WeightsKind

ROOT = "conv_root/kernel"
POSITIONS = "Transformer/posembed_input/pos_embedding"
CLASSIFIER = ("cls", "head/", "pre_logits/")
"""Prefixes of weights of the classifier, which are not loaded."""
CURE = "give Google's R50+ViT-B_16.npz"


@dataclass(frozen=True)
class TensorSource:
    """Source of one of the encoder's tensors: names of arrays in the file, and the conversion of these arrays."""

    names: tuple[str, ...]
    convert: Callable[..., Tensor]


def load_google_vit(encoder: Encoder, path: Path) -> WeightsKind:
    """Load Google's hybrid ViT into TransUNet's encoder, with positions resampled to the encoder's grid.

    Raises:
        OptionError, RunError: the file is of another type, damaged, or of another network; names the first difference.
    """
    arrays = read_arrays(path)
    if ROOT not in arrays:
        plain = "a ViT without the ResNet, " if "embedding/kernel" in arrays else ""
        raise RunError(f"{path} does not fit the backbone: it is {plain}without {ROOT}", CURE)
    origins = _find_sources(encoder)
    weights: dict[str, Tensor] = {}
    for ours, origin in origins.items():
        if missing := [name for name in origin.names if name not in arrays]:
            raise RunError(f"{path} does not fit the backbone: the weight {missing[0]} is missing", CURE)
        found = [arrays[name].float() for name in origin.names]
        try:
            weights[ours] = origin.convert(*found)
        except (RuntimeError, IndexError) as error:
            shapes = ", ".join(str(tuple(array.shape)) for array in found)
            raise RunError(
                f"{path} does not fit the backbone: the weight {origin.names[0]} has the shape {shapes} ({error})", CURE
            ) from error
    used = {name for origin in origins.values() for name in origin.names}
    # Unused arrays are kept, so that load_strictly names them.
    weights |= {n: array for n, array in arrays.items() if n not in used and not n.startswith(CLASSIFIER)}
    load_strictly(encoder, weights, path, "the backbone", {ours: origin.names[0] for ours, origin in origins.items()})
    return WeightsKind("Google's R50+ViT-B_16", positions=tuple(arrays[POSITIONS].shape[1:]))


def _find_sources(encoder: nn.Module) -> dict[str, TensorSource]:
    """Tensor of TransUNet's encoder → its source."""
    found = {}
    for name, parameter in encoder.state_dict().items():
        part, _, rest = name.partition(".")
        if part == "trunk":
            found[name] = _find_trunk_source(rest, parameter.shape)
        else:
            found[name] = _find_transformer_source(rest, parameter.shape)
    return found


def _find_trunk_source(name: str, shape: torch.Size) -> TensorSource:
    path, _, kind = name.replace(".", "/").rpartition("/")
    if path == "conv_root":
        return TensorSource((ROOT,), lambda kernel: _to_conv_weight(kernel).repeat(1, shape[1] // 3, 1, 1))
    if len(shape) == 4:
        return TensorSource((f"{path}/kernel",), _to_conv_weight)
    # Norms over channels are stored as (1, 1, 1, C) in the stages, and as (C,) elsewhere.
    return TensorSource((f"{path}/{'scale' if kind == 'weight' else 'bias'}",), torch.flatten)


def _find_transformer_source(name: str, shape: torch.Size) -> TensorSource:
    if name == "positions":
        return TensorSource((POSITIONS,), lambda table: _to_positions(table, shape[1]))
    path, _, kind = name.rpartition(".")
    if path == "embedding":
        return TensorSource((f"embedding/{_to_flax_name(kind)}",), _to_conv_weight if kind == "weight" else torch.clone)
    if path == "norm":
        return TensorSource((f"Transformer/encoder_norm/{_to_flax_name(kind, norm=True)}",), torch.clone)
    _, index, layer = path.split(".", 2)
    block = f"Transformer/encoderblock_{index}"
    attention = f"{block}/MultiHeadDotProductAttention_1"
    if layer in ("norm1", "norm2"):
        place = {"norm1": "LayerNorm_0", "norm2": "LayerNorm_2"}[layer]
        return TensorSource((f"{block}/{place}/{_to_flax_name(kind, norm=True)}",), torch.clone)
    if layer == "attention.qkv":
        names = tuple(f"{attention}/{part}/{_to_flax_name(kind)}" for part in ("query", "key", "value"))
        return TensorSource(
            names, _to_qkv_weight if kind == "weight" else lambda q, k, v: torch.cat([q, k, v]).flatten()
        )
    if layer == "attention.out":
        # (heads, D / heads, D) → (D, D)
        return TensorSource(
            (f"{attention}/out/{_to_flax_name(kind)}",),
            (lambda w: w.flatten(0, 1).T) if kind == "weight" else torch.clone,
        )
    place = {"fc1": "Dense_0", "fc2": "Dense_1"}[layer]
    return TensorSource(
        (f"{block}/MlpBlock_3/{place}/{_to_flax_name(kind)}",), torch.t if kind == "weight" else torch.clone
    )


def _to_flax_name(kind: str, *, norm: bool = False) -> str:
    """Flax's name of a layer's weight or bias."""
    if kind == "bias":
        return "bias"
    return "scale" if norm else "kernel"


def _to_conv_weight(kernel: Tensor) -> Tensor:
    """(h, w, I, O) → (O, I, h, w)."""
    return kernel.permute(3, 2, 0, 1)


def _to_qkv_weight(*kernels: Tensor) -> Tensor:
    """Three of (D, heads, D / heads) → (3·D, D)."""
    return torch.cat([kernel.flatten(1).T for kernel in kernels])


def _to_positions(table: Tensor, tokens: int) -> Tensor:
    """(1, 1 + n², D), with the class token first → (1, tokens, D)."""
    grid = table[:, 1:]
    side = round(grid.shape[1] ** 0.5)
    if side * side != grid.shape[1]:
        raise RuntimeError("its positions are not a square grid")
    wanted = round(tokens**0.5)
    return resample_positions(grid, (wanted, wanted))
