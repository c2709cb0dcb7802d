"""`frugalseg finetune`, with or without a promptable model that refines pseudo-labels.

It is in this package because segmentation/ does not import promptable models.
"""

from __future__ import annotations

from dataclasses import replace

from frugalseg.engine.run import RunFolder
from frugalseg.engine.threads import with_threads
from frugalseg.options import FinetuneOptions
from frugalseg.segmentation.finetune import finetune as finetune_segmenter


@with_threads
def finetune(options: FinetuneOptions) -> RunFolder:
    """Train a segmentation model and leave it in `options.out`.

    Raises:
        FrugalsegError: what `segmentation.finetune.finetune` raises.
        OptionError, RunError: there is no promptable model of the name `options.refine`, or it is not on this machine.
    """
    if options.refine is None:
        return finetune_segmenter(options)
    from frugalseg.promptable.load import lasting_name
    from frugalseg.refinement.pseudo_labels import Redraw

    options = replace(options, refine=lasting_name(options.refine))  # not found missing after hours of training
    return finetune_segmenter(options, lambda store, device: Redraw(store, options, device))
