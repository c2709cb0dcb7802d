"""recipe.json of an exported model: all that must happen before and after its network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from frugalseg.imaging.intensity import IntensityScale
from frugalseg.options import Keep
from frugalseg.records.record import Record


@dataclass(frozen=True)
class ExportCheck:
    """The exported network compared with the trained one.

    Attributes:
        scan: SHA-256 of the scan that both saw.
        values: number of probabilities that were compared.
        largest_difference: of two probabilities.
        different_classes: pixels whose likeliest class differs; only where two classes are equally likely.
    """

    scan: str
    values: int
    largest_difference: float
    different_classes: int


@dataclass(frozen=True, kw_only=True)
class ExportRecipe(Record):
    """What a program needs to use the network.

    Attributes:
        CURE: what to do about a damaged file.
        version: version of frugalseg that exported it.
        weights_sha256: SHA-256 of the weights of the trained model.
        organs: organ → label values, in the order of the network's classes; class 0 is the background.
        axes: direction of a scan's axes before it is cut into slices along the last one.
        size: side of the square slices, pixels.
        context: neighbouring slices on each side that are channels too.
        intensity: how intensities are scaled to [0, 1].
        keep: organ → post-processing of its mask (see `steps`).
        bridge_radius: half the width, in pixels of the squares, of the thin connections that `core` removes.
        input, output: shapes of the network's input and output.
        steps: what happens, in words, in this order; processing.py does it.
        check: the comparison with the trained network.
    """

    CURE: ClassVar[str] = "export the model again"

    version: str
    weights_sha256: str
    organs: dict[str, tuple[int, ...]]
    axes: str
    size: int
    context: int
    intensity: IntensityScale
    keep: dict[str, Keep]
    bridge_radius: int
    input: str
    output: str
    steps: tuple[str, ...]
    check: ExportCheck
