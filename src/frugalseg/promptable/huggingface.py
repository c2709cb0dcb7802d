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

from frugalseg.engine.device import arithmetic, autocast
from frugalseg.errors import RunError
from frugalseg.models.weight_files import check_finite
from frugalseg.options import Precision
from frugalseg.promptable.decoder import ONE, SEVERAL, decode_in_batches, decode_masks, encode_prompts
from frugalseg.promptable.protocol import Candidates, Embedding, Prompts, Recipe, make_signature
from frugalseg.text import pluralize
from frugalseg.weights.folder import ORIGIN
from frugalseg.weights.huggingface_folder import model_type

SAM = Recipe(size=1024, mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375), scale=255, stretch=False)
"""SAM, SlimSAM and SAM-HQ: 8-bit pictures, the longer side 1024 (segment_anything/modeling/sam.py)."""
MEDSAM = Recipe(size=1024, mean=(0, 0, 0), std=(1, 1, 1), scale=1, stretch=True, fit="square")
"""MedSAM: each picture stretched to [0, 1] and to the whole square (MedSAM_Inference.py)."""
SAM2 = Recipe(
    size=1024,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    scale=1,
    stretch=False,
    levels="continuous",
    fit="square",
)
"""SAM 2 and EdgeTAM: ImageNet's mean and deviation, the whole square (sam2/utils/misc.py); no need of 8 bits."""
PROMPTS_PER_BATCH = 16
"""More are decoded in several goes, so that memory has a bound: about 60 MB a prompt."""
_VOLATILE = {"transformers_version", "architectures", "dtype", "torch_dtype", "_name_or_path"}


class HuggingFaceModel(ABC):
    """A network of transformers as a `Promptable`.

    Args:
        network: it is moved to `device` and frozen.
        name: for people.
        recipe: how it wants its pictures.
        device: where to compute.
        precision: see `engine.device.arithmetic`; prompts are always encoded in float32, results are float32.

    Attributes:
        name, signature, recipe, device: see `Promptable`.
    """

    def __init__(
        self, network: Any, name: str, recipe: Recipe, device: torch.device, precision: Precision = "auto"
    ) -> None:
        self.name = name
        self.recipe = recipe
        self.device = device
        self.signature = make_network_signature(network, recipe, arithmetic(precision, device))
        self._precision: Precision = precision
        # Any: the classes of transformers that end up here share these methods, but no base class with them.
        self._network: Any = network.to(device).eval().requires_grad_(False)
        with torch.no_grad():
            self._position_encoding: Tensor = self._network.get_image_wide_positional_embeddings()

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Embedding:
        """Embeddings of framed pictures (B, 3, size, size); "image" is the coarsest map, (B, C, size/16, size/16)."""
        with autocast(self._precision, self.device):
            maps = self._encode_maps(pixels.to(self.device))
        return {name: tensor.float().contiguous() for name, tensor in maps.items()}

    @torch.no_grad()
    def decode(self, embedding: Embedding, prompts: Prompts, several: bool = False) -> Candidates:
        """See `Promptable`; logits have a resolution of size/4.

        Raises:
            ValueError: `prompts` hold neither boxes nor points nor masks.
        """
        side = 4 * self._network.prompt_encoder.image_embedding_size[0]

        def decode(maps: Embedding, part: Prompts) -> tuple[Tensor, Tensor]:
            if part.points is None and part.boxes is None and self._needs_tokens:
                part = replace(part, **_make_empty_points(part))
            sparse, dense = encode_prompts(self._network.prompt_encoder, part, side)
            with autocast(self._precision, self.device):
                return self._decode_tokens(maps, self._position_encoding, sparse, dense, several)

        shape = (3 if several else 1, side)
        return decode_in_batches(decode, embedding, prompts, shape, PROMPTS_PER_BATCH, self.device)

    _needs_tokens = False
    """Whether the decoder needs at least one token, be it of a point that is none."""

    @abstractmethod
    def _encode_maps(self, pixels: Tensor) -> Embedding:
        """All that the decoder needs of pictures, by name."""

    @abstractmethod
    def _decode_tokens(
        self, maps: Embedding, positions: Tensor, sparse: Tensor | None, dense: Tensor, several: bool
    ) -> tuple[Tensor, Tensor]:
        """Logits (N, M, L, L) and scores (N, M) for N maps, tokens (N, 1, T, C) and places (1, C, …)."""


class Sam(HuggingFaceModel):
    """SAM, SlimSAM or MedSAM (`SamModel`)."""

    def _encode_maps(self, pixels: Tensor) -> Embedding:
        return {"image": self._network.get_image_embeddings(pixels)}

    def _decode_tokens(
        self, maps: Embedding, positions: Tensor, sparse: Tensor | None, dense: Tensor, several: bool
    ) -> tuple[Tensor, Tensor]:
        tokens = None if sparse is None else sparse[:, 0]
        wanted = SEVERAL if several else ONE
        return decode_masks(self._network.mask_decoder, maps["image"], positions, tokens, dense, wanted)


class SamHQ(HuggingFaceModel):
    """SAM-HQ (`SamHQModel`). The sum of SAM's and the high-quality logits, as its authors have it."""

    def __init__(
        self, network: Any, name: str, recipe: Recipe, device: torch.device, precision: Precision = "auto"
    ) -> None:
        super().__init__(network, name, recipe, device, precision)
        fix_hq_decoder(self._network.mask_decoder)

    def _encode_maps(self, pixels: Tensor) -> Embedding:
        image, early = self._network.get_image_embeddings(pixels)
        return {"image": image, "early": early[0]}

    def _decode_tokens(
        self, maps: Embedding, positions: Tensor, sparse: Tensor | None, dense: Tensor, several: bool
    ) -> tuple[Tensor, Tensor]:
        logits, scores, *_ = self._network.mask_decoder(
            maps["image"],
            positions.expand(len(maps["image"]), -1, -1, -1),
            sparse,
            dense,
            multimask_output=several,
            hq_token_only=False,
            intermediate_embeddings=[maps["early"]],
        )
        return logits[:, 0], scores[:, 0]


class Sam2(HuggingFaceModel):
    """SAM 2 or 2.1 for single pictures (`Sam2Model`)."""

    _needs_tokens = True

    def _encode_maps(self, pixels: Tensor) -> Embedding:
        fine, middle, image = self._network.get_image_embeddings(pixels)
        return {"image": image, "stride 8": middle, "stride 4": fine}

    def _decode_tokens(
        self, maps: Embedding, positions: Tensor, sparse: Tensor | None, dense: Tensor, several: bool
    ) -> tuple[Tensor, Tensor]:
        logits, scores, *_ = self._network.mask_decoder(
            maps["image"],
            positions.expand(len(maps["image"]), -1, -1, -1),
            sparse,
            dense,
            multimask_output=several,
            high_resolution_features=[maps["stride 4"], maps["stride 8"]],
        )
        return logits[:, 0], scores[:, 0]


def fix_hq_decoder(decoder: nn.Module) -> None:
    """Let SAM-HQ's mask decoder upscale what its transformer made of the picture.

    transformers 5.23 drops that and upscales the encoder's features, with rows and columns exchanged; the authors'
    `mask_decoder_hq.py` upscales the transformer's second output. Where transformers does so too, this changes nothing.
    """
    seen: list[Tensor] = []

    def store_output(_module: nn.Module, _inputs: Any, output: tuple[Tensor, Tensor]) -> None:
        seen[:] = [output[1]]

    def replace_input(_module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        # (N, 1, places, channels) → (N, channels, rows, columns)
        return (seen.pop().transpose(2, 3).reshape(inputs[0].shape),)

    decoder.get_submodule("transformer").register_forward_hook(store_output)
    decoder.get_submodule("upscale_conv1").register_forward_pre_hook(replace_input)


def to_promptable(network: Any, path: Path, device: torch.device, precision: Precision) -> HuggingFaceModel:
    """A network as a `Promptable` with its family's recipe; `path` is where it is from, and tells MedSAM from SAM."""
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
    """The recipe of a SAM 2 or EdgeTAM network, at its own size."""
    return replace(SAM2, size=int(network.config.prompt_encoder_config.image_size))


def name_from_path(path: Path) -> str:
    """What a file or folder is called.

    In Hugging Face's own cache that is the name of the repository, not of the snapshot; among the weights that
    `frugalseg weights` keeps, the name they are kept under counts too.
    """
    path = path.absolute()
    if path.parent.name == "snapshots":
        return path.parent.parent.name
    if (path.parent / ORIGIN).is_file():
        return f"{path.parent.name}/{path.name}"
    return path.name


def make_network_signature(network: PreTrainedModel, recipe: Recipe, *more: object) -> str:
    """Changes with the class, the configuration, the weights (whatever file they are from), the recipe and `more`."""
    digest = hashlib.sha256(type(network).__name__.encode())
    digest.update(json.dumps(_drop_volatile(network.config.to_dict()), sort_keys=True, default=str).encode())
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(memoryview(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()))
    return make_signature(digest.hexdigest(), recipe, *more)


def _drop_volatile(config: Any) -> Any:
    if not isinstance(config, dict):
        return config
    return {str(name): _drop_volatile(value) for name, value in config.items() if name not in _VOLATILE}


def _make_empty_points(prompts: Prompts) -> dict[str, Tensor]:
    """One point a prompt that is none."""
    count, device = len(prompts.picture), prompts.picture.device
    return {"points": torch.zeros(count, 1, 2, device=device), "labels": torch.full((count, 1), -1, device=device)}


_CURE = "give a folder as `save_pretrained` of transformers writes it, whole: config.json and its weights"
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
"""What transformers lets through when a folder's files are damaged."""


def load_huggingface_folder(path: Path, device: torch.device, precision: Precision = "auto") -> HuggingFaceModel:
    """The model in a Hugging Face folder: config.json with model.safetensors or pytorch_model.bin, or shards of these.

    Nothing is fetched, and nothing unpickled but tensors. A folder with "medsam" in its name gets MedSAM's recipe: its
    config.json is SAM's.

    Args:
        path: of the folder.
        device: where to compute.
        precision: see `engine.device.arithmetic`.

    Raises:
        OptionError: there is no such folder, or no config.json in it.
        RunError: the model is of another type, or the files are damaged or of different models; names the difference.
    """
    kinds: dict[str, Any] = {
        "sam": SamModel,
        "sam_hq": SamHQModel,
        "sam2": Sam2Model,
        "sam2_video": Sam2Model,
    }
    kind = model_type(path)
    if kind not in kinds:
        raise RunError(
            f"{path} holds a model of type {kind!r}, expected one of {', '.join(kinds)}",
            "give a folder of SAM, SlimSAM, MedSAM, SAM-HQ or SAM 2",
        )
    return to_promptable(load_pretrained_network(kinds[kind], path), path, device, precision)


def load_pretrained_network(kind: Any, path: Path) -> Any:
    """The network in a folder, in float32 on the CPU; every weight has its place, and every place its weight.

    Weights that `kind` knows to belong to a larger model are left out (SAM 2's memory for `Sam2Model`).

    Raises:
        RunError: the files are damaged, or of different models; names the first difference.
    """
    try:
        with _silence_transformers():
            network, report = kind.from_pretrained(
                path,
                local_files_only=True,
                weights_only=True,
                dtype=torch.float32,
                ignore_mismatched_sizes=True,  # so that it is us who name them
                output_loading_info=True,
            )
    except _UNREADABLE as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise RunError(f"{path} cannot be read: it is damaged, or no model of its type ({reason})", _CURE) from error
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
    """Without transformers' progress bars and reports; what matters of them becomes an error."""
    reports: Any = logging
    verbosity, bars = reports.get_verbosity(), reports.is_progress_bar_enabled()
    reports.set_verbosity_error()
    reports.disable_progress_bar()
    try:
        yield
    finally:
        reports.set_verbosity(verbosity)
        if bars:
            reports.enable_progress_bar()
