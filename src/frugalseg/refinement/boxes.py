"""Box prompts: the pieces of a mask, and the bounding box of each with a margin in millimetres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor

from frugalseg.masks.components import TOUCHING, Bools
from frugalseg.options import Pieces
from frugalseg.promptable.framing import SquareFrame
from frugalseg.promptable.protocol import Embedding, Promptable, Prompts

Classes = npt.NDArray[np.uint8]
Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels of the slice, the maxima exclusive."""

TOUCHING_IN_SLICE = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True, eq=False)
class Piece:
    """A part of a mask in one slice; each is prompted with one box.

    Attributes:
        z: slice.
        number: class, from 1.
        rows, columns: its bounding box in the slice.
        shape: its mask within that box (rows, columns).
    """

    z: int
    number: int
    rows: slice
    columns: slice
    shape: Bools

    def area(self) -> int:
        """Area in pixels."""
        return int(np.count_nonzero(self.shape))

    def box(self, margin_mm: float, pixel_mm: tuple[float, float], slice_shape: tuple[int, int]) -> Box:
        """The bounding box, `margin_mm` larger on every side, clipped to the slice."""
        return _add_margin(self.rows, self.columns, margin_mm, pixel_mm, slice_shape)

    def to_slice_mask(self, slice_shape: tuple[int, int]) -> Bools:
        """The piece as a mask of its whole slice, (H, W)."""
        mask = np.zeros(slice_shape, dtype=bool)
        mask[self.rows, self.columns] = self.shape
        return mask


def box_around(mask: Bools, margin_mm: float, pixel_mm: tuple[float, float]) -> Box:
    """The box around a whole non-empty mask (H, W); see `Piece.box`."""
    rows, columns = ndimage.find_objects(mask.astype(np.uint8))[0]
    return _add_margin(rows, columns, margin_mm, pixel_mm, mask.shape)


def _add_margin(
    rows: slice, columns: slice, margin_mm: float, pixel_mm: tuple[float, float], slice_shape: tuple[int, ...]
) -> Box:
    down, across = margin_mm / pixel_mm[0], margin_mm / pixel_mm[1]
    return (
        max(0.0, columns.start - across),
        max(0.0, rows.start - down),
        min(float(slice_shape[1]), columns.stop + across),
        min(float(slice_shape[0]), rows.stop + down),
    )


def label_parts_3d(classes: Classes, count: int) -> npt.NDArray[np.int32]:
    """The 26-connected components of every class in 3D.

    Args:
        classes: (Z, H, W), 0 background, 1…`count`.

    Returns:
        (Z, H, W) int32, 0 background; numbered across all classes.
    """
    parts = np.zeros(classes.shape, dtype=np.int32)
    last = 0
    for number, box in enumerate(ndimage.find_objects(classes)[:count], start=1):
        if box is None:
            continue
        labelled, found = ndimage.label(classes[box] == number, structure=TOUCHING)
        inside = labelled > 0
        parts[box][inside] = labelled[inside] + last
        last += found
    return parts


def find_pieces(z: int, classes: Classes, how: Pieces, parts: npt.NDArray[np.int32] | None = None) -> list[Piece]:
    """The pieces of one slice, class by class.

    Args:
        z: the slice.
        classes: (H, W), 0 background.
        how: slice: one piece per class. component: one piece per component of the slice, 8-connected. component-3d:
            one piece per 3D component.
        parts: (H, W), the slice of `label_parts_3d`; needed for component-3d.
    """
    pieces = []
    for number, box in enumerate(ndimage.find_objects(classes), start=1):
        if box is None:
            continue
        mask = classes[box] == number
        if how == "slice":
            labelled = mask.astype(np.int32)
        elif how == "component-3d":
            if parts is None:
                raise ValueError("component-3d needs the 3D components of the volume")
            # Renumbered from 1, because find_objects looks at every number up to the largest.
            present = np.unique(parts[box][mask])
            labelled = np.where(mask, np.searchsorted(present, parts[box]) + 1, 0).astype(np.int32)
        else:
            labelled = ndimage.label(mask, structure=TOUCHING_IN_SLICE)[0]
        pieces += _make_pieces(z, number, box, labelled)
    return pieces


def _make_pieces(z: int, number: int, box: Sequence[slice], labelled: npt.NDArray[np.int32]) -> list[Piece]:
    found = []
    for label, inner in enumerate(ndimage.find_objects(labelled), start=1):
        if inner is None:
            continue
        rows, columns = (
            slice(outer.start + within.start, outer.start + within.stop)
            for outer, within in zip(box, inner, strict=True)
        )
        found.append(Piece(z, number, rows, columns, labelled[inner] == label))
    return found


@torch.inference_mode()
def decode_boxes(
    model: Promptable,
    frame: SquareFrame,
    embedding: Embedding,
    image_index: Sequence[int],
    boxes: Sequence[Box],
    several: bool = False,
) -> tuple[Tensor, Tensor]:
    """The masks that a model returns for N boxes, on the grid of the slices.

    Args:
        model, frame, embedding: the model, and the frame and embedding of the slices.
        image_index: of each box, the index of its image in the embedding.
        boxes: in pixels of the slice.
        several: let the model return three masks per box and take the one with the highest score, instead of one mask.

    Returns:
        Logits (N, H, W) float32 and the predicted IoU of each, (N,); on the model's device.
    """
    prompts = Prompts(
        image_index=torch.tensor(list(image_index), dtype=torch.int64, device=model.device),
        boxes=frame.boxes_to_model(
            torch.tensor([list(box) for box in boxes], dtype=torch.float32, device=model.device)
        ),
    )
    logits, scores = model.decode(embedding, prompts, several).best()
    return frame.masks_to_slice(logits), scores
