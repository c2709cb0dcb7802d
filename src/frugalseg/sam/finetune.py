"""`frugalseg finetune`, with or without a promptable model that refines pseudo-labels.

It lies here because segment/ knows nothing of this room.
"""

from __future__ import annotations

from frugalseg.engine.run import RunFolder
from frugalseg.options import FinetuneOptions
from frugalseg.segment.finetune import finetune as finetune_segmenter


def finetune(options: FinetuneOptions) -> RunFolder:
    """Train a segmentation model and leave it in `options.out`.

    Raises:
        FrugalsegError: what `segment.finetune.finetune` raises.
        OptionError, RunError: there is no promptable model of the name `options.refine`, or it is not on this machine.
    """
    if options.refine is None:
        return finetune_segmenter(options)
    from frugalseg.sam.load import find_weights
    from frugalseg.sam.redraw import Redraw

    find_weights(options.refine)  # before hours of training
    return finetune_segmenter(options, lambda store, device: Redraw(store, options, device))
