"""Load a fine-tuned network from its run folder."""

from __future__ import annotations

from pathlib import Path

import torch

from frugalseg.models.blocks import MaskNetwork
from frugalseg.models.saved import WEIGHTS, load_run_weights, load_weights
from frugalseg.options import Precision
from frugalseg.records.networks import SegmenterRecord
from frugalseg.segmentation.architecture import Architecture, NetworkShape, recorded_architecture


def load_segmenter(
    run: Path,
    record: SegmenterRecord,
    device: torch.device,
    precision: Precision = "auto",
    encoder: str | None = None,
    cache: Path | None = None,
) -> MaskNetwork:
    """The network of a finished run, in evaluation mode; it computes the features of a frozen encoder itself.

    Args:
        run: the run folder.
        record: its model.json.
        device: where it is to run.
        precision: of its frozen encoder, if it has one.
        encoder: name, folder or file of that encoder; None for that of the training.
        cache: folder of its cached features; None for none.

    Raises:
        RunError: the weights cannot be read, or are not this network's; or the encoder is another one.
        OptionError: the encoder is missing.
    """
    return load_network(run, record, recorded_architecture(record, run, device, precision, encoder, cache))


def load_network(run: Path, record: SegmenterRecord, architecture: Architecture) -> MaskNetwork:
    """The network of a finished run, on the device of its architecture, in evaluation mode.

    Args:
        run: the run folder.
        record: its model.json.
        architecture: that of the record.

    Raises:
        RunError: the weights cannot be read, or are not this network's.
    """
    shape = NetworkShape(
        len(record.targets), record.norm, dropout=None, context=record.context, side=record.preprocessing.size
    )
    network = architecture.build(shape)
    load_run_weights(network, load_weights(run), run / WEIGHTS)
    return network.to(architecture.device).eval()
