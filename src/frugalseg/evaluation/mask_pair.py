"""One organ's reference and predicted mask, and the counts and distances that metrics share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from frugalseg.evaluation.policy import Outcome
from frugalseg.evaluation.surface import Floats, Mask, SurfaceDistances, bounding_box, image_diagonal


@dataclass(frozen=True, eq=False)
class MaskPair:
    """The input of a metric.

    Attributes:
        reference, prediction: bool, of one shape: the masks inside the bounding box of both. Outside it both are
            background, which changes no count and no surface.
        shape: of the whole image.
        to_mm: (3, 3) matrix, voxel index → mm; may be oblique or sheared.
        tolerance: of the normalised surface Dice, mm.
        workers: threads of the distance search; -1 takes all cores.
    """

    reference: Mask
    prediction: Mask
    shape: tuple[int, ...]
    to_mm: Floats
    tolerance: float
    workers: int

    @classmethod
    def from_masks(
        cls, reference: Mask, prediction: Mask, affine: npt.NDArray[Any], tolerance: float, workers: int = -1
    ) -> MaskPair:
        """Crop the two masks of a whole image to the bounding box of both.

        Args:
            reference: bool, (X, Y, Z).
            prediction: bool, same shape and grid.
            affine: 4×4, voxel index → mm.
            tolerance, workers: see the attributes.

        Raises:
            ValueError: the shapes differ, or a mask is not bool.
        """
        if reference.shape != prediction.shape or reference.dtype != bool or prediction.dtype != bool:
            raise ValueError(
                f"expected two bool masks of one shape, got {reference.dtype} {reference.shape} "
                f"and {prediction.dtype} {prediction.shape}"
            )
        box = bounding_box(reference | prediction) or (slice(0, 0),) * reference.ndim
        to_mm = np.asarray(affine, dtype=np.float64)[:3, :3]
        return cls(reference[box], prediction[box], reference.shape, to_mm, tolerance, workers)

    @cached_property
    def in_reference(self) -> int:
        """Voxels of the reference."""
        return int(np.count_nonzero(self.reference))

    @cached_property
    def in_prediction(self) -> int:
        """Voxels of the prediction."""
        return int(np.count_nonzero(self.prediction))

    @cached_property
    def in_both(self) -> int:
        """Voxels that both masks hold."""
        return int(np.count_nonzero(self.reference & self.prediction))

    @property
    def outcome(self) -> Outcome:
        """Which of the masks holds the organ."""
        return Outcome.from_presence(self.in_reference > 0, self.in_prediction > 0)

    @cached_property
    def voxel_ml(self) -> float:
        """Volume of a voxel, ml."""
        return abs(float(np.linalg.det(self.to_mm))) / 1000.0

    @property
    def diagonal_mm(self) -> float:
        """The longest diagonal of the whole image, mm."""
        return image_diagonal(self.shape, self.to_mm)

    @cached_property
    def distances(self) -> SurfaceDistances:
        """Distances between the surfaces of the masks; computed on first use.

        Raises:
            ValueError: a mask is empty.
        """
        return SurfaceDistances.between(self.reference, self.prediction, self.to_mm, self.workers)
