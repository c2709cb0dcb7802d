"""SAM, SlimSAM, MedSAM, SAM-HQ and SAM 2 in the implementation of `transformers`.

Sources: SAM (Kirillov et al., ICCV 2023), SlimSAM (Chen et al., NeurIPS 2024), MedSAM (Ma et al., Nature Communications
2024), SAM-HQ (Ke et al., NeurIPS 2023), SAM 2 (Ravi et al., ICLR 2025).
"""

from __future__ import annotations

import hashlib
import json
import pickle
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import PreTrainedModel, Sam2Model, SamHQModel, SamModel
from transformers.utils import logging

from frugalseg.engine.device import autocast, resolve_precision
from frugalseg.errors import RunError
from frugalseg.models.weight_files import check_finite
from frugalseg.options import Precision
from frugalseg.promptable.decoder import ONE, SEVERAL, decode_in_batches, decode_masks, encode_prompts
from frugalseg.promptable.protocol import FLOAT32, Candidates, Embedding, Prompts, Recipe, make_signature
from frugalseg.text import pluralize
from frugalseg.weights.folder import ORIGIN
from frugalseg.weights.huggingface_folder import read_model_type

SAM = Recipe(size=1024, mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375), scale=255, stretch=False)
"""SAM, SlimSAM and SAM-HQ: 8-bit images, longer side 1024 (segment_anything/modeling/sam.py)."""
MEDSAM = Recipe(size=1024, mean=(0, 0, 0), std=(1, 1, 1), scale=1, stretch=True, fit="square")
"""MedSAM: grey values of each image stretched to [0, 1], slice stretched to the square (MedSAM_Inference.py)."""
SAM2 = Recipe(
    size=1024,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    scale=1,
    stretch=False,
    levels="continuous",
    fit="square",
)
"""SAM 2 and EdgeTAM: ImageNet's mean and SD, slice stretched to the square (sam2/utils/misc.py), no rounding."""
PROMPTS_PER_BATCH = 16
"""Limits memory: a prompt takes about 60 MB."""
_VOLATILE = {"transformers_version", "architectures", "dtype", "torch_dtype", "_name_or_path"}


class HuggingFaceModel(ABC):
    """A network of `transformers` as a `Promptable`.

    Args:
        network: it is moved to `device` and frozen.
        name: shown to users.
        recipe: its preprocessing.
        device: where to compute.
        precision: see `engine.device.resolve_precision`; prompts are always encoded in float32, results are float32.

    Attributes:
        name, signature, recipe, device: see `Promptable`.
        weights_signature: see `ImageEncoder`.
    """

    def __init__(
        self, network: Any, name: str, recipe: Recipe, device: torch.device, precision: Precision = "auto"
    ) -> None:
        self.name = name
        self.recipe = recipe
        self.device = device
        digest = hash_network(network)
        self.signature = make_signature(digest, recipe, resolve_precision(precision, device))
        self.weights_signature = make_signature(digest, recipe, FLOAT32)
        self._precision: Precision = precision
        # Any: the classes of transformers that end up here share these methods, but no base class with them.
        self.network: Any = network.to(device).eval().requires_grad_(False)
        with torch.no_grad():
            self.position_encoding: Tensor = self.network.get_image_wide_positional_embeddings()

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Embedding:
        """Embeddings of input images (B, 3, size, size); "image" is the coarsest map, (B, C, size/16, size/16)."""
        with autocast(self._precision, self.device):
            maps = self._encode_maps(pixels.to(self.device))
        return {name: tensor.float().contiguous() for name, tensor in maps.items()}

    @torch.no_grad()
    def decode(self, embedding: Embedding, prompts: Prompts, several: bool = False) -> Candidates:
        """See `Promptable`; logits have a resolution of size/4.

        Raises:
            ValueError: `prompts` have neither boxes nor points nor masks.
        """
        side = 4 * self.network.prompt_encoder.image_embedding_size[0]

        def decode(maps: Embedding, part: Prompts) -> tuple[Tensor, Tensor]:
            if part.points is None and part.boxes is None and self._needs_tokens:
                part = replace(part, **_make_empty_points(part))
            sparse, dense = encode_prompts(self.network.prompt_encoder, part, side)
            with autocast(self._precision, self.device):
                return self._decode_tokens(maps, part.image_index, sparse, dense, several)

        shape = (3 if several else 1, side)
        return decode_in_batches(decode, embedding, prompts, shape, PROMPTS_PER_BATCH, self.device)

    _needs_tokens = False
    """Whether the decoder needs at least one token, if only that of a padding point."""

    @abstractmethod
    def _encode_maps(self, pixels: Tensor) -> Embedding:
        """The feature maps that the decoder needs of input images, by name."""

    @abstractmethod
    def _decode_tokens(
        self, maps: Embedding, map_of: Tensor, sparse: Tensor | None, dense: Tensor, several: bool
    ) -> tuple[Tensor, Tensor]:
        """Logits (N, M, L, L) and scores (N, M) for the map of each of N prompts, their tokens (N, 1, T, C), and
        `dense` of `encode_prompts`."""


class Sam(HuggingFaceModel):
    """SAM, SlimSAM or MedSAM (`SamModel`)."""

    def _encode_maps(self, pixels: Tensor) -> Embedding:
        return {"image": self.network.get_image_embeddings(pixels)}

    def _decode_tokens(
        self, maps: Embedding, map_of: Tensor, sparse: Tensor | None, dense: Tensor, several: bool
    ) -> tuple[Tensor, Tensor]:
        tokens = None if sparse is None else sparse[:, 0]
        wanted = SEVERAL if several else ONE
        decoder, positions = self.network.mask_decoder, self.position_encoding
        return decode_masks(decoder, maps["image"], positions, tokens, dense, wanted, map_of)


class SamHQ(HuggingFaceModel):
    """SAM-HQ (`SamHQModel`): the sum of SAM's and the high-quality logits, as its authors compute it."""

    def __init__(
        self, network: Any, name: str, recipe: Recipe, device: torch.device, precision: Precision = "auto"
    ) -> None:
        super().__init__(network, name, recipe, device, precision)
        fix_hq_decoder(self.network.mask_decoder)

    def _encode_maps(self, pixels: Tensor) -> Embedding:
        image, early = self.network.get_image_embeddings(pixels)
        return {"image": image, "early": early[0]}

    def _decode_tokens(
        self, maps: Embedding, map_of: Tensor, sparse: Tensor | None, dense: Tensor, several: bool
    ) -> tuple[Tensor, Tensor]:
        logits, scores, *_ = self.network.mask_decoder(
            maps["image"][map_of],
            self.position_encoding.expand(len(map_of), -1, -1, -1),
            sparse,
            dense,
            multimask_output=several,
            hq_token_only=False,
            intermediate_embeddings=[maps["early"][map_of]],
        )
        return logits[:, 0], scores[:, 0]


class Sam2(HuggingFaceModel):
    """SAM 2 or 2.1 for single images (`Sam2Model`)."""

    _needs_tokens = True

    def _encode_maps(self, pixels: Tensor) -> Embedding:
        fine, middle, image = self.network.get_image_embeddings(pixels)
        return {"image": image, "stride 8": middle, "stride 4": fine}

    def _decode_tokens(
        self, maps: Embedding, map_of: Tensor, sparse: Tensor | None, dense: Tensor, several: bool
    ) -> tuple[Tensor, Tensor]:
        logits, scores, *_ = self.network.mask_decoder(
            maps["image"][map_of],
            self.position_encoding.expand(len(map_of), -1, -1, -1),
            sparse,
            dense,
            multimask_output=several,
            high_resolution_features=[maps["stride 4"][map_of], maps["stride 8"][map_of]],
        )
        return logits[:, 0], scores[:, 0]


def fix_hq_decoder(decoder: nn.Module) -> None:
    """Make SAM-HQ's mask decoder upscale the image features after its transformer.

    transformers 5.23 upscales the encoder's features instead, with rows and columns exchanged; the authors'
    `mask_decoder_hq.py` upscales the transformer's second output. With a version of transformers that does the same,
    this changes nothing.
    """
    outputs: list[Tensor] = []

    def store_output(_module: nn.Module, _inputs: Any, output: tuple[Tensor, Tensor]) -> None:
        outputs[:] = [output[1]]

    def replace_input(_module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        # (N, 1, positions, channels) → (N, channels, rows, columns)
        return (outputs.pop().transpose(2, 3).reshape(inputs[0].shape),)

    decoder.get_submodule("transformer").register_forward_hook(store_output)
    decoder.get_submodule("upscale_conv1").register_forward_pre_hook(replace_input)


def to_promptable(network: Any, path: Path, device: torch.device, precision: Precision) -> HuggingFaceModel:
    """A network as a `Promptable` with its family's recipe; the name of its `path` distinguishes MedSAM from SAM."""
    title = name_from_path(path)
    if isinstance(network, Sam2Model):
        return Sam2(network, f"SAM 2 ({title})", sam2_recipe(network), device, precision)
    size = int(network.config.vision_config.image_size)
    if isinstance(network, SamHQModel):
        return SamHQ(network, f"SAM-HQ ({title})", replace(SAM, size=size), device, precision)
    if "medsam" in title.lower():
        return Sam(network, f"MedSAM ({title})", replace(MEDSAM, size=size), device, precision)
    return Sam(network, f"SAM ({title})", replace(SAM, size=size), device, precision)


def sam2_recipe(network: Any) -> Recipe:
    """The recipe of a SAM 2 or EdgeTAM network, with its image size."""
    return replace(SAM2, size=int(network.config.prompt_encoder_config.image_size))


def name_from_path(path: Path) -> str:
    """The name of a weight file or folder.

    In Hugging Face's cache, the name of the repository instead of the snapshot's; for weights installed by `frugalseg
    weights`, preceded by the name they are installed under.
    """
    path = path.absolute()
    if path.parent.name == "snapshots":
        return path.parent.parent.name
    if (path.parent / ORIGIN).is_file():
        return f"{path.parent.name}/{path.name}"
    return path.name


def make_network_signature(network: PreTrainedModel, recipe: Recipe, *more: object) -> str:
    """A hash of class, configuration, weights (independent of their file), recipe and `more`."""
    return make_signature(hash_network(network), recipe, *more)


def hash_network(network: PreTrainedModel) -> str:
    """SHA-256 of class, configuration and weights, independent of their file."""
    digest = hashlib.sha256(type(network).__name__.encode())
    digest.update(json.dumps(_drop_volatile(network.config.to_dict()), sort_keys=True, default=str).encode())
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(memoryview(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()))
    return digest.hexdigest()


def _drop_volatile(config: Any) -> Any:
    if not isinstance(config, dict):
        return config
    return {str(name): _drop_volatile(value) for name, value in config.items() if name not in _VOLATILE}


def _make_empty_points(prompts: Prompts) -> dict[str, Tensor]:
    """One padding point per prompt."""
    count, device = len(prompts.image_index), prompts.image_index.device
    return {"points": torch.zeros(count, 1, 2, device=device), "labels": torch.full((count, 1), -1, device=device)}


_CURE = "give a complete folder as written by `save_pretrained` of transformers: config.json and its weights"
_UNREADABLE = (
    OSError,
    RuntimeError,
    ValueError,
    KeyError,
    TypeError,
    EOFError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    SafetensorError,
    StrictDataclassError,
)
"""Errors that transformers raises for damaged files."""


def load_huggingface_folder(path: Path, device: torch.device, precision: Precision = "auto") -> HuggingFaceModel:
    """The model in a Hugging Face folder: config.json with model.safetensors or pytorch_model.bin, or shards of these.

    Nothing is downloaded, and only tensors are unpickled. A folder with "medsam" in its name gets MedSAM's recipe, as
    its config.json is the same as SAM's.

    Args:
        path: the folder.
        device: where to compute.
        precision: see `engine.device.resolve_precision`.

    Raises:
        OptionError: the folder or its config.json is missing.
        RunError: the model is of another type, or the files are damaged or do not fit each other; names the difference.
    """
    kinds: dict[str, Any] = {
        "sam": SamModel,
        "sam_hq": SamHQModel,
        "sam2": Sam2Model,
        "sam2_video": Sam2Model,
    }
    kind = read_model_type(path)
    if kind not in kinds:
        raise RunError(
            f"{path} holds a model of type {kind!r}, expected one of {', '.join(kinds)}",
            "give a folder of SAM, SlimSAM, MedSAM, SAM-HQ or SAM 2",
        )
    return to_promptable(load_pretrained_network(kinds[kind], path), path, device, precision)


def load_pretrained_network(kind: Any, path: Path) -> Any:
    """The network in a folder, in float32 on the CPU; its weights must be exactly those of its configuration.

    Weights that `kind` knows to belong to a larger model are ignored (SAM 2's memory for `Sam2Model`).

    Raises:
        RunError: the files are damaged, or do not fit each other; names the first difference.
    """
    try:
        with _silence_transformers():
            network, report = kind.from_pretrained(
                path,
                local_files_only=True,
                weights_only=True,
                dtype=torch.float32,
                ignore_mismatched_sizes=True,  # reported below
                output_loading_info=True,
            )
    except _UNREADABLE as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise RunError(f"{path} cannot be read: it is damaged, or not a model of its type ({reason})", _CURE) from error
    wrong = [f"{name} has the shape {tuple(a)}, expected {tuple(b)}" for name, a, b in report["mismatched_keys"]]
    wrong += [f"{name} is missing" for name in report["missing_keys"]]
    wrong += [f"{name} is unexpected" for name in report["unexpected_keys"]]
    if wrong:
        more = f", and {pluralize(len(wrong) - 1, 'more difference')}" if len(wrong) > 1 else ""
        raise RunError(f"{path} does not fit its config.json: the weight {sorted(wrong)[0]}{more}", _CURE)
    check_finite(network.state_dict(), path, _CURE)
    return network


@contextmanager
def _silence_transformers() -> Iterator[None]:
    """Suppress progress bars and reports of transformers; differences they would report become errors."""
    control: Any = logging
    verbosity, bars = control.get_verbosity(), control.is_progress_bar_enabled()
    control.set_verbosity_error()
    control.disable_progress_bar()
    try:
        yield
    finally:
        control.set_verbosity(verbosity)
        if bars:
            control.enable_progress_bar()
