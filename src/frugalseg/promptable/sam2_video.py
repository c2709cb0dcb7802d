"""SAM 2 and EdgeTAM propagate masks from slice to slice as through a video, with memory independent of the depth.

Sources: SAM 2 (Ravi et al., ICLR 2025, section 4), EdgeTAM (Zhou et al., CVPR 2025); networks of `transformers`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import EdgeTamVideoModel, Sam2VideoModel
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

from frugalseg.engine.device import autocast, resolve_precision
from frugalseg.errors import RunError
from frugalseg.options import Precision
from frugalseg.promptable.checkpoint import Checkpoint
from frugalseg.promptable.framing import SquareFrame
from frugalseg.promptable.huggingface import (
    load_pretrained_network,
    make_network_signature,
    name_from_path,
    sam2_recipe,
)
from frugalseg.promptable.litemedsam import is_litemedsam
from frugalseg.promptable.original_checkpoints import build_sam2_network
from frugalseg.weights.huggingface_folder import read_model_type

CERTAIN_LOGIT = 10.0
"""Logit of a mask prompt, as in SAM 2."""
_PICTURES = ("pred_masks", "high_res_masks")
_MEMORIES = ("maskmem_features", "maskmem_pos_enc")


class VideoModel:
    """A network that propagates masks from slice to slice.

    Args:
        network: `Sam2VideoModel` or `EdgeTamVideoModel`; it is moved to `device` and frozen.
        name: shown to users.
        device: where to compute.
        precision: see `engine.device.resolve_precision`; results are float32.

    Attributes:
        name, signature, recipe, device: as of a `Promptable`.
    """

    def __init__(self, network: Any, name: str, device: torch.device, precision: Precision = "auto") -> None:
        self.name = name
        self.recipe = sam2_recipe(network)
        self.device = device
        self.signature = make_network_signature(network, self.recipe, resolve_precision(precision, device))
        self._precision: Precision = precision
        self._network: Any = network.to(device).eval().requires_grad_(False)

    def propagate(
        self,
        frames: Callable[[int], Tensor] | Sequence[Tensor] | Tensor,
        order: Sequence[int],
        prompts: Mapping[int, Tensor],
        depth: int | None = None,
    ) -> Iterator[tuple[int, Tensor]]:
        """Propagate K objects along slices, one slice at a time.

        Held in memory are the features of the prompted slices and of the last `num_maskmem` − 1 slices (6), and one
        pointer vector per object for the last `max_object_pointers_in_encoder` − 1 slices (15). Memory and time grow
        with K.

        Args:
            frames: slice number → (H, W) grey values in [0, 1]; each slice is read once.
            order: slice numbers. Prompted slices may be anywhere, the others must rise or fall throughout; slices that
                are not in it do not enter the memory.
            prompts: slice in `order` → (K, H, W) boolean masks, the same K ≥ 1 for all; an object may be absent.
            depth: slices of the whole volume, by which the authors scale distances in volumes of fewer than 16 slices;
                by default the largest number in `order` + 1.

        Returns:
            Each slice's number and (K, H, W) float32 logits on its grid, object above 0; prompted slices have ±10, and
            an object that the model considers absent has −1024.

        Raises:
            ValueError: the order is not as described, or shapes do not agree.
        """
        rest = [z for z in order if z not in prompts]
        _check_prompts(order, rest, prompts)
        # The direction of a single slice is away from the first prompted one.
        falls = bool(rest) and rest[-1] < (rest[0] if len(rest) > 1 else next(iter(prompts)))
        return self._propagate_masks(frames, order, prompts, falls, max(order) + 1 if depth is None else depth)

    def _propagate_masks(
        self,
        frames: Callable[[int], Tensor] | Sequence[Tensor] | Tensor,
        order: Sequence[int],
        prompts: Mapping[int, Tensor],
        reverse: bool,
        depth: int,
    ) -> Iterator[tuple[int, Tensor]]:
        read = frames if callable(frames) else frames.__getitem__
        masks = next(iter(prompts.values()))
        session = _Session(depth, self.device)
        for k in range(len(masks)):
            session.obj_id_to_idx(k)
        frame = SquareFrame.of(tuple(masks.shape[1:]), self.recipe)
        for z, mask_prompt in prompts.items():
            self._step(session, frame, read(z), z, False, mask_prompt)
        for z in order:
            if z in prompts:
                yield z, torch.where(prompts[z].to(self.device).bool(), CERTAIN_LOGIT, -CERTAIN_LOGIT)
            else:
                logits = self._step(session, frame, read(z), z, reverse)
                yield z, frame.masks_to_slice(logits)

    @torch.no_grad()
    def _step(
        self, session: _Session, frame: SquareFrame, grey: Tensor, z: int, reverse: bool, prompt: Tensor | None = None
    ) -> Tensor:
        """Logits (K, L, L) of one slice, which is then in the session's memory."""
        pixels = frame.to_model_input(grey[None].to(self.device), self.recipe)
        session.add_new_frame(pixels, z)
        if prompt is not None:
            inside = frame.masks_to_model(prompt.to(self.device))
            # A pixel covered by half counts, as by the authors; but a small mask keeps its most covered pixels.
            inside = (inside >= inside.amax((1, 2), keepdim=True).clamp(max=0.5)) & (inside > 0)
            for k, mask in enumerate(inside):
                session.add_mask_inputs(k, z, mask[None, None])
            session.obj_with_new_inputs = list(range(len(inside)))
        with autocast(self._precision, self.device):
            found = self._network(session, frame_idx=z, reverse=reverse)
        logits: Tensor = found.pred_masks[:, 0].float()
        self._drop_unused_memory(session, z)
        return logits

    def _drop_unused_memory(self, session: _Session, z: int) -> None:
        """Drop memory that no later slice reads; later slices are at least 1 further than `z`."""
        config = self._network.config
        session.processed_frames = {}
        session.cache._vision_features.clear()
        for k, outputs in session.output_dict_per_obj.items():
            session.mask_inputs_per_obj[k].clear()
            session.frames_tracked_per_obj[k].clear()
            recent = outputs["non_cond_frame_outputs"]
            for slice_, output in [*recent.items(), *outputs["cond_frame_outputs"].items()]:
                distance = abs(z - slice_) + 1 if slice_ in recent else 0
                unused = _PICTURES if distance < config.num_maskmem else _PICTURES + _MEMORIES
                for part in unused:
                    output.pop(part, None)
                if distance >= max(config.num_maskmem, config.max_object_pointers_in_encoder):
                    del recent[slice_]


class _Session(Sam2VideoInferenceSession):
    """A session that holds one frame at a time of a video of `depth` frames."""

    def __init__(self, depth: int, device: torch.device) -> None:
        super().__init__(
            inference_device=device, inference_state_device=device, video_storage_device=device, dtype=torch.float32
        )
        self._depth = depth

    @property
    def num_frames(self) -> int:
        """Frames of the whole video; the base class counts those in memory."""
        return self._depth


def _check_prompts(order: Sequence[int], rest: Sequence[int], prompts: Mapping[int, Tensor]) -> None:
    if not prompts or not set(prompts) <= set(order):
        raise ValueError(f"prompts on slices {sorted(prompts)}: at least one is needed, and all must be in the order")
    if len(set(order)) < len(order) or min(order) < 0 or list(rest) not in (sorted(rest), sorted(rest, reverse=True)):
        raise ValueError("slices without prompts must rise or fall throughout, each number once, from 0")
    shapes = {tuple(masks.shape) for masks in prompts.values()}
    if len(shapes) > 1 or len(shape := next(iter(shapes))) != 3 or shape[0] == 0:
        raise ValueError(f"masks of shapes {sorted(shapes)} given, expected one shape (K, H, W) with K ≥ 1")


def load_video_model(path: Path, device: torch.device, precision: Precision = "auto") -> VideoModel:
    """SAM 2 or EdgeTAM with its memory, from a Hugging Face folder or SAM 2's own file.

    Nothing is downloaded, and only tensors are unpickled.

    Args:
        path: the folder or file.
        device: where to compute.
        precision: see `engine.device.resolve_precision`.

    Raises:
        OptionError: the folder, its config.json, or the file is missing.
        RunError: the model has no memory, is of another kind, is damaged, or needs a package that is not installed.
    """
    if path.is_dir():
        return _load_folder(path, device, precision)
    if path.is_file() and is_litemedsam(path):
        raise RunError(f"{path} is LiteMedSAM, which has no memory for several slices", _CURE)
    checkpoint = Checkpoint(path)
    if checkpoint.family != "SAM 2":
        raise RunError(f"{path} is {checkpoint.family}, which has no memory for several slices", _CURE)
    return VideoModel(build_sam2_network(checkpoint), f"SAM 2 ({name_from_path(path)})", device, precision)


_CURE = "give SAM 2 or 2.1 with its memory as --model, or use --engine box, which works with any model"


def _load_folder(path: Path, device: torch.device, precision: Precision) -> VideoModel:
    kind = read_model_type(path)
    if kind == "sam2_video":
        return VideoModel(
            load_pretrained_network(Sam2VideoModel, path), f"SAM 2 ({name_from_path(path)})", device, precision
        )
    if kind == "edgetam_video":
        return VideoModel(_load_edgetam(path), f"EdgeTAM ({name_from_path(path)})", device, precision)
    raise RunError(f"{path} holds a model of type {kind!r}, expected sam2_video or edgetam_video", _CURE)


def _load_edgetam(path: Path) -> Any:
    """EdgeTAM; its published backbone, RepViT-M1, is in timm, which frugalseg does not require: it needs torchvision.

    Raises:
        RunError: as `load_pretrained_network`; or the backbone needs timm, which is not installed.
    """
    try:
        return load_pretrained_network(EdgeTamVideoModel, path)
    except ImportError as error:
        raise RunError(
            f"{path}: the backbone of this EdgeTAM is built by the package timm, which cannot be imported",
            "give SAM 2 instead, or install timm and a torchvision that fits PyTorch",
        ) from error
