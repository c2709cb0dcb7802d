"""SAM 2 and EdgeTAM propagate masks from slice to slice, as through a video; memory does not depend on the depth.

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

from frugalseg.engine.device import arithmetic, autocast
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
from frugalseg.weights.huggingface_folder import model_type

CERTAIN_LOGIT = 10.0
"""Logit of a given mask: what SAM 2 itself makes of one."""
_PICTURES = ("pred_masks", "high_res_masks")
_MEMORIES = ("maskmem_features", "maskmem_pos_enc")


class VideoModel:
    """A network that propagates masks from slice to slice.

    Args:
        network: `Sam2VideoModel` or `EdgeTamVideoModel`; it is moved to `device` and frozen.
        name: for people.
        device: where to compute.
        precision: see `engine.device.arithmetic`; results are float32.

    Attributes:
        name, signature, recipe, device: as of a `Promptable`.
    """

    def __init__(self, network: Any, name: str, device: torch.device, precision: Precision = "auto") -> None:
        self.name = name
        self.recipe = sam2_recipe(network)
        self.device = device
        self.signature = make_network_signature(network, self.recipe, arithmetic(precision, device))
        self._precision: Precision = precision
        self._network: Any = network.to(device).eval().requires_grad_(False)

    def propagate(
        self,
        frames: Callable[[int], Tensor] | Sequence[Tensor] | Tensor,
        order: Sequence[int],
        prompts: Mapping[int, Tensor],
        depth: int | None = None,
    ) -> Iterator[tuple[int, Tensor]]:
        """Carry K objects along slices, one slice at a time.

        Kept at any time are the prompted slices' memories, those of the last `num_maskmem` − 1 slices (6), and pointers
        of a vector an object to the last `max_object_pointers_in_encoder` − 1 (15). Memory and time grow with K.

        Args:
            frames: of a slice's number its (H, W) grey values in [0, 1]; each is asked for once.
            order: the slices' numbers. Prompted ones may be anywhere, the others rise or fall throughout; what is left
                out is not remembered.
            prompts: of slices in `order` (K, H, W) boolean masks, K ≥ 1 the same for all; an object may be absent.
            depth: slices of the whole volume, after which the authors measure distances where they are fewer than 16;
                the largest number in `order` + 1 by default.

        Returns:
            Each slice's number and (K, H, W) float32 logits on its own grid, above 0 is object; ±10 are the given masks
            themselves, and −1024 an object that the model takes to be absent.

        Raises:
            ValueError: the order is not as described, or shapes do not agree.
        """
        rest = [z for z in order if z not in prompts]
        _check_prompts(order, rest, prompts)
        # A single slice goes away from the first prompted one.
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
        take = frames if callable(frames) else frames.__getitem__
        masks = next(iter(prompts.values()))
        session = _Session(depth, self.device)
        for k in range(len(masks)):
            session.obj_id_to_idx(k)
        frame = SquareFrame.of(tuple(masks.shape[1:]), self.recipe)
        for z, given in prompts.items():
            self._step(session, frame, take(z), z, False, given)
        for z in order:
            if z in prompts:
                yield z, torch.where(prompts[z].to(self.device).bool(), CERTAIN_LOGIT, -CERTAIN_LOGIT)
            else:
                logits = self._step(session, frame, take(z), z, reverse)
                yield z, frame.masks_to_slice(logits)

    @torch.no_grad()
    def _step(
        self, session: _Session, frame: SquareFrame, grey: Tensor, z: int, reverse: bool, given: Tensor | None = None
    ) -> Tensor:
        """Logits (K, L, L) of one slice, which the session then remembers as far as needed."""
        pixels = frame.to_model_input(grey[None].to(self.device), self.recipe)
        session.add_new_frame(pixels, z)
        if given is not None:
            inside = frame.masks_to_model(given.to(self.device))
            # Half covered counts, as the authors have it; but nothing vanishes for being small.
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
        """Drop what no later slice looks at: they are at least 1 further than `z`."""
        config = self._network.config
        session.processed_frames = {}
        session.cache._vision_features.clear()
        for k, outputs in session.output_dict_per_obj.items():
            session.mask_inputs_per_obj[k].clear()
            session.frames_tracked_per_obj[k].clear()
            recent = outputs["non_cond_frame_outputs"]
            for slice_, output in [*recent.items(), *outputs["cond_frame_outputs"].items()]:
                far = abs(z - slice_) + 1 if slice_ in recent else 0
                unused = _PICTURES if far < config.num_maskmem else _PICTURES + _MEMORIES
                for part in unused:
                    output.pop(part, None)
                if far >= max(config.num_maskmem, config.max_object_pointers_in_encoder):
                    del recent[slice_]


class _Session(Sam2VideoInferenceSession):
    """A session that holds one frame at a time, of a video of `depth` frames."""

    def __init__(self, depth: int, device: torch.device) -> None:
        super().__init__(
            inference_device=device, inference_state_device=device, video_storage_device=device, dtype=torch.float32
        )
        self._depth = depth

    @property
    def num_frames(self) -> int:
        """Of the whole video, where the network would otherwise count those that are held."""
        return self._depth


def _check_prompts(order: Sequence[int], rest: Sequence[int], prompts: Mapping[int, Tensor]) -> None:
    if not prompts or not set(prompts) <= set(order):
        raise ValueError(f"prompts on slices {sorted(prompts)}: at least one is needed, and all within the order")
    if len(set(order)) < len(order) or min(order) < 0 or list(rest) not in (sorted(rest), sorted(rest, reverse=True)):
        raise ValueError("the slices between prompts must rise or fall throughout, each once, from 0 on")
    shapes = {tuple(masks.shape) for masks in prompts.values()}
    if len(shapes) > 1 or len(shape := next(iter(shapes))) != 3 or shape[0] == 0:
        raise ValueError(f"masks of shapes {sorted(shapes)} given, expected one shape (K, H, W) with K ≥ 1")


def load_video_model(path: Path, device: torch.device, precision: Precision = "auto") -> VideoModel:
    """SAM 2 or EdgeTAM with its memory, from a Hugging Face folder or SAM 2's own file.

    Nothing is fetched, and nothing unpickled but tensors.

    Args:
        path: of the folder or file.
        device: where to compute.
        precision: see `engine.device.arithmetic`.

    Raises:
        OptionError: there is no such folder or file, or no config.json in it.
        RunError: the model has no memory, is of another kind, is damaged, or needs a package that is not here.
    """
    if path.is_dir():
        return _load_folder(path, device, precision)
    if path.is_file() and is_litemedsam(path):
        raise RunError(f"{path} is LiteMedSAM, which has no memory for several slices", _CURE)
    checkpoint = Checkpoint(path)
    if checkpoint.family != "SAM 2":
        raise RunError(f"{path} is {checkpoint.family}, which has no memory for several slices", _CURE)
    return VideoModel(build_sam2_network(checkpoint), f"SAM 2 ({name_from_path(path)})", device, precision)


_CURE = "name SAM 2 or 2.1 with its memory by --model, or take --engine box, for any model of boxes"


def _load_folder(path: Path, device: torch.device, precision: Precision) -> VideoModel:
    kind = model_type(path)
    if kind == "sam2_video":
        return VideoModel(
            load_pretrained_network(Sam2VideoModel, path), f"SAM 2 ({name_from_path(path)})", device, precision
        )
    if kind == "edgetam_video":
        return VideoModel(_load_edgetam(path), f"EdgeTAM ({name_from_path(path)})", device, precision)
    raise RunError(f"{path} holds a model of type {kind!r}, expected sam2_video or edgetam_video", _CURE)


def _load_edgetam(path: Path) -> Any:
    """EdgeTAM's published backbone, RepViT-M1, is one of timm's; frugalseg does without timm, which needs torchvision.

    Raises:
        RunError: as `load_pretrained_network`; and where the backbone is timm's, and timm is not there.
    """
    try:
        return load_pretrained_network(EdgeTamVideoModel, path)
    except ImportError as error:
        raise RunError(
            f"{path}: the backbone of this EdgeTAM is built by the package timm, which cannot be imported",
            "give SAM 2 instead, or install timm and a torchvision that fits PyTorch",
        ) from error
