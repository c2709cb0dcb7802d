"""Published weights for an encoder, from a local file."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from frugalseg.engine.files import sha256
from frugalseg.errors import OptionError
from frugalseg.models.blocks import Encoder
from frugalseg.models.registry import BACKBONES, find_backbone
from frugalseg.records.networks import PublishedWeights


def load_published(encoder: Encoder, backbone: str, path: Path) -> PublishedWeights:
    """Load published weights into an encoder. Only tensors are unpickled; on an error the encoder is unchanged.

    Args:
        encoder: of `backbone`, from `build_segmenter` or `build_projection`.
        backbone: its name.
        path: for the ResNets a .safetensors or PyTorch file of ImageNet weights, for transunet one of Google's .npz
            files.

    Returns:
        What they are, for the record.

    Raises:
        OptionError: no weights exist for the backbone, the file is missing or of another type, or they need another
            norm or version of the backbone.
        RunError: the file is damaged or of another network; names the first difference.
    """
    load = find_backbone(backbone).load_published
    if load is None:
        having = ", ".join(sorted(name for name, entry in BACKBONES.items() if entry.load_published))
        raise OptionError(
            f"--weights: there are no published weights for --backbone {backbone}", f"choose one of: {having}"
        )
    if not path.is_file():
        raise OptionError(f"--weights {path}: no such file", "give a file on this machine; nothing is downloaded")
    kind = load(encoder, path)
    parameters = sum(parameter.numel() for parameter in encoder.parameters())
    return PublishedWeights(path.name, sha256(path), parameters=parameters, **asdict(kind))
