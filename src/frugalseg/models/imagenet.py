"""ImageNet weights for the ResNets: the first convolution, trained on normalised colour images, is folded for scans.

A network trained on (x − mean) / std of RGB images x in [0, 1] computes, on a grey slice x repeated three times,

    Σc W_c ∗ (x − mean_c) / std_c  =  (Σc W_c / std_c) ∗ x  −  Σc mean_c / std_c · Σ W_c

which is one kernel over the slice, and a constant per channel. The constant is added to the running mean of the batch
norm behind; in training it cancels, because a batch norm subtracts the mean of its batch. The folding is exact except
in the two outermost pixels of the stem's map: there the original pads with ImageNet's mean grey value, this one with 0,
the value of scans outside the body.

With n neighbouring slices, each gets 1/n of the kernel: equal slices give the result of one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from frugalseg.errors import OptionError, RunError
from frugalseg.models.blocks import Encoder
from frugalseg.models.resnet import ResNetEncoder, ResNetShape
from frugalseg.models.weight_files import load_strictly, read_state_dict
from frugalseg.records.networks import WeightsKind

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Normalisation:
    """The normalisation (x − mean) / std of the training images in [0, 1], in the file's order of channels."""

    mean: Triple
    std: Triple


IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CAFFE = Normalisation((103.53 / 255, 116.28 / 255, 123.675 / 255), (1 / 255, 1 / 255, 1 / 255))
"""Blue, green, red from 0 to 255, minus the mean."""


def load_imagenet(shape: ResNetShape, encoder: Encoder, path: Path) -> WeightsKind:
    """Load torchvision's, timm's or (into a v1 ResNet) Caffe's ImageNet weights of `shape` into `encoder`.

    The classifier is not loaded. A config.json of timm next to the file states the architecture and the normalisation.

    Raises:
        OptionError: the encoder has no batch norms, or the file is of the other version of ResNet-50.
        RunError: the file is damaged or of another network; names the first difference.
    """
    assert isinstance(encoder, ResNetEncoder)
    if "bn1.running_mean" not in encoder.state_dict():
        raise OptionError("ImageNet --weights need batch norms", "leave out --norm, or give --norm batch")
    weights = {name: tensor for name, tensor in read_state_dict(path).items() if not name.startswith("fc.")}
    declared = _read_timm_config(path)
    _check_resnet_version(shape, weights, declared, path)
    caffe = shape.stride_on == "1x1"
    normalisation = CAFFE if caffe else _read_normalisation(declared, path)
    kernel = weights.get("conv1.weight")
    if kernel is None or kernel.ndim != 4 or kernel.shape[1] != 3 or "bn1.running_mean" not in weights:
        raise RunError(
            f"{path} does not fit the backbone: it has no conv1.weight over three colours with a bn1 behind it",
            f"give ImageNet weights of {shape.name}",
        )
    weights["conv1.weight"], shift = fold_kernel(kernel, normalisation, encoder.conv1.in_channels)
    # Subtracting a constant from the running mean adds it to the batch norm's input. A bias that does not fit stays in
    # the weights, so that load_strictly names it.
    mean = weights["bn1.running_mean"]
    if "conv1.bias" in weights and weights["conv1.bias"].shape == mean.shape:
        mean = mean - weights.pop("conv1.bias")
    weights["bn1.running_mean"] = mean - shift if mean.shape == shift.shape else mean
    load_strictly(encoder, weights, path, "the backbone")
    kind = f"ImageNet {shape.name} ({'Caffe, v1' if caffe else 'torchvision, v1.5'})"
    return WeightsKind(kind, normalisation.mean, normalisation.std)


def fold_kernel(kernel: Tensor, normalisation: Normalisation, inputs: int) -> tuple[Tensor, Tensor]:
    """Convert a kernel for normalised colours to one for slices in [0, 1], and a constant to add to its output.

    Args:
        kernel: (O, 3, h, w).
        normalisation: of the images it was trained on.
        inputs: number of slices in the input.

    Returns:
        (O, inputs, h, w), and (O,) to be added to every output pixel.
    """
    scaled = kernel.double() / torch.tensor(normalisation.std, dtype=torch.float64).reshape(1, 3, 1, 1)
    shift = -(scaled.sum(dim=(2, 3)) @ torch.tensor(normalisation.mean, dtype=torch.float64))
    folded = scaled.sum(dim=1, keepdim=True).repeat(1, inputs, 1, 1) / inputs
    return folded.float(), shift.float()


def _check_resnet_version(
    shape: ResNetShape, weights: dict[str, Tensor], declared: dict[str, object], path: Path
) -> None:
    """Check the network that the file states, since names and shapes of weights do not show a stride."""
    if "architecture" in declared and declared["architecture"] != shape.name:
        raise RunError(
            f"{path} is of {declared['architecture']}, as the config.json beside it says; expected {shape.name}",
            f"give ImageNet weights of {shape.name}",
        )
    if not shape.bottleneck:
        return
    # Caffe's first convolution has a bias, PyTorch's has none; PyTorch's batch norms count batches, Caffe's do not.
    caffe = "conv1.bias" in weights
    pytorch = "architecture" in declared or any(name.endswith("num_batches_tracked") for name in weights)
    if caffe and shape.stride_on == "3x3":
        raise OptionError(f"--weights {path} come from Caffe (v1)", "give --backbone resnet50-caffe-unet")
    if pytorch and not caffe and shape.stride_on == "1x1":
        raise OptionError(f"--weights {path} come from PyTorch (v1.5), not Caffe", "give --backbone resnet50-unet")


def _read_timm_config(path: Path) -> dict[str, object]:
    """The content of timm's config.json next to the weights; empty where there is none."""
    config = path.with_name("config.json")
    if not config.is_file():
        return {}
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(
            f"{config}, beside the weights, cannot be read ({error})",
            "repair or remove it; it states which network the weights are of",
        ) from error
    return content if isinstance(content, dict) and "architecture" in content else {}


def _read_normalisation(declared: dict[str, object], path: Path) -> Normalisation:
    """The normalisation that timm's config.json states, by default ImageNet's usual one."""
    config = declared.get("pretrained_cfg", {})
    if not isinstance(config, dict) or not {"mean", "std"} & config.keys():
        return IMAGENET
    try:
        mean, std = (tuple(float(value) for value in config[name]) for name in ("mean", "std"))
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ValueError(f"mean {list(mean)}, std {list(std)}")
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"{path.with_name('config.json')} states no mean and std of three colours ({error})",
            "use the config.json that belongs to the weights, or remove it",
        ) from error
    return Normalisation((mean[0], mean[1], mean[2]), (std[0], std[1], std[2]))
