"""Load a fine-tuned network from its run folder."""

from __future__ import annotations

from pathlib import Path

import torch

from frugalseg.models.blocks import Segmenter
from frugalseg.models.registry import build_segmenter, input_channels
from frugalseg.models.saved import WEIGHTS, load_run_weights, load_weights
from frugalseg.records.model import SegmenterRecord


def load_segmenter(run: Path, record: SegmenterRecord, device: torch.device) -> Segmenter:
    """The network of a finished run, in evaluation mode.

    Args:
        run: the run folder.
        record: its model.json.
        device: where it is to run.

    Raises:
        RunError: the weights cannot be read, or are not this network's.
    """
    inputs = input_channels(record.context)
    network = build_segmenter(record.backbone, len(record.targets), record.norm, inputs=inputs, device=device)
    load_run_weights(network, load_weights(run), run / WEIGHTS)
    return network.to(device).eval()
