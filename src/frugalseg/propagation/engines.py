"""The two engines that propagate annotated objects along slices, behind one interface."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from frugalseg.masks.components import Bools
from frugalseg.options import PropagateOptions
from frugalseg.promptable.batches import BOXES_PER_BATCH, Batches
from frugalseg.promptable.embeddings import Embedder, ScanSlices
from frugalseg.promptable.load import find_weights, load_promptable
from frugalseg.promptable.protocol import Promptable
from frugalseg.propagation.box_engine import BoxPropagator
from frugalseg.propagation.passes import BELIEF_LIMIT, Pass, SliceState, are_nonempty
from frugalseg.refinement.refiner import overlap

if TYPE_CHECKING:
    from frugalseg.promptable.sam2_video import VideoModel

LOGITS_PER_BELIEF = 2.0
"""A video model's logits per unit of belief: from a logit of twice `BELIEF_LIMIT` on, belief is at its limit."""

Propagator = Callable[[Pass, Bools, SliceState | None], Iterator[SliceState]]
"""A pass, the objects (K, H, W) of its annotated slice, and the last slice done before an interruption (or None) → the
remaining slices, in order."""


class Engine(Protocol):
    """Propagates objects along the slices of scans."""

    def make_propagator(self, scan: ScanSlices) -> Propagator:
        """The propagator for this scan."""


class BoxEngine:
    """Box prompts from slice to slice, with any promptable model (see `propagation.box_engine`)."""

    def __init__(self, model: Promptable, options: PropagateOptions) -> None:
        self.model, self.options = model, options
        self.slices = Batches(1, "slices")  # each slice is prompted by the masks of the slice before
        self.boxes = Batches(BOXES_PER_BATCH[model.device.type], "boxes")

    def make_propagator(self, scan: ScanSlices) -> Propagator:
        """See `Engine`; each slice is embedded when it is reached.

        Both passes from an annotated slice use the same calibration, and a slice that two passes reach is encoded once.
        """
        embedder = Embedder(self.model, scan, self.options.cache, self.slices, remembers=True)
        last: BoxPropagator | None = None

        def propagate(pass_: Pass, masks: Bools, state: SliceState | None) -> Iterator[SliceState]:
            nonlocal last
            if last is None or last.start.z != pass_.start:
                last = BoxPropagator(self.model, scan, embedder, self.boxes, self.options, pass_.start, masks)
            return last.propagate(remaining_slices(pass_, state), state)

        return propagate


class VideoEngine:
    """The memory of SAM 2 or EdgeTAM (see `promptable.sam2_video`).

    Its memory cannot be stored, so an interrupted pass starts again.
    """

    def __init__(self, model: VideoModel) -> None:
        self.model = model
        self.objects = Batches(1 << 30, "objects")

    def make_propagator(self, scan: ScanSlices) -> Propagator:
        """See `Engine`; if all objects do not fit into memory, they are propagated in groups."""

        def propagate(pass_: Pass, masks: Bools, state: SliceState | None) -> Iterator[SliceState]:
            alive = np.flatnonzero(masks.any(axis=(1, 2)))
            waiting = list(remaining_slices(pass_, state))
            before = masks if state is None else state.masks()
            while waiting:
                groups = [alive[i : i + self.objects.size] for i in range(0, len(alive), self.objects.size)]
                try:
                    for z, logits in self._propagate_groups(scan, pass_, masks, groups):
                        if z in waiting:
                            found = _make_state(z, logits, before)
                            before = found.masks()
                            waiting.remove(z)
                            yield found
                except (MemoryError, RuntimeError) as error:
                    self.objects.halve(len(groups[0]), error)

        return propagate

    def _propagate_groups(
        self, scan: ScanSlices, pass_: Pass, masks: Bools, groups: Sequence[npt.NDArray[np.intp]]
    ) -> Iterator[tuple[int, Tensor]]:
        """Each slice of a pass with the logits (K, H, W) of all objects; absent objects have the lowest logit."""
        prompts, order = torch.from_numpy(masks), [pass_.start, *pass_.order]
        runs = [self.model.propagate(scan, order, {pass_.start: prompts[group]}, len(scan)) for group in groups]
        for found in zip(*runs, strict=True):
            z = found[0][0]
            logits = torch.full(masks.shape, -BELIEF_LIMIT * LOGITS_PER_BELIEF)
            for group, (_, group_logits) in zip(groups, found, strict=True):
                logits[group] = group_logits.float().cpu()
            yield z, logits


def remaining_slices(pass_: Pass, state: SliceState | None) -> Sequence[int]:
    """The slices of a pass after the last one done."""
    return pass_.order if state is None else pass_.order[pass_.order.index(state.z) + 1 :]


def _make_state(z: int, logits: Tensor, before: Bools) -> SliceState:
    """The state from a video model's logits (K, H, W); the score is the mean probability of the mask's pixels."""
    beliefs = (logits / LOGITS_PER_BELIEF).clamp(-BELIEF_LIMIT, BELIEF_LIMIT).numpy()
    ones = np.ones(len(beliefs))
    # Rounded first, so that the figures are those of the stored masks, whether the run was interrupted or not.
    found = SliceState(z, beliefs, are_nonempty(beliefs > 0), ones, ones, ones).rounded()
    masks, sure = found.masks(), torch.sigmoid(logits).numpy()
    score = np.array([float(p[m].mean()) if m.any() else 0.0 for p, m in zip(sure, masks, strict=True)])
    change = np.array([overlap(a, b) for a, b in zip(masks, before, strict=True)])
    return replace(found, alive=are_nonempty(masks), score=score, change=change)


def load_engine(options: PropagateOptions, device: torch.device) -> tuple[Engine, Any]:
    """The engine, and its model.

    Raises:
        OptionError, RunError: there is no such model, or it is not of the kind that the engine needs.
    """
    if options.engine == "box":
        model = load_promptable(options.model, device, options.precision)
        return BoxEngine(model, options), model
    from frugalseg.promptable.sam2_video import load_video_model  # transformers takes seconds to import

    video = load_video_model(find_weights(options.model), device, options.precision)
    return VideoEngine(video), video
