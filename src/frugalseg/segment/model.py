"""A fine-tuned network, built again from its run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from frugalseg.models.blocks import Segmenter
from frugalseg.models.registry import build_segmenter, inputs_of
from frugalseg.models.saved import WEIGHTS, fill, load_weights


def load_segmenter(run: Path, spec: dict[str, Any]) -> Segmenter:
    """The network of a finished run, in evaluation mode, on the CPU.

    Args:
        run: the run folder.
        spec: its model.json.

    Raises:
        RunError: the weights cannot be read, or are not this network's.
    """
    inputs = inputs_of(spec["context"])
    network = build_segmenter(spec["backbone"], len(spec["targets"]), spec["norm"], inputs=inputs)
    fill(network, load_weights(run), run / WEIGHTS)
    return network.eval()
