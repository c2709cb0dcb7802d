"""`frugalseg finetune`, with or without a promptable model that refines pseudo-labels.

It is in this package because `segmentation` may not import `promptable`.
"""

from __future__ import annotations

from dataclasses import replace

from frugalseg.engine.run import RunFolder
from frugalseg.engine.threads import with_threads
from frugalseg.engine.training import run_training
from frugalseg.options import FinetuneOptions
from frugalseg.segmentation.finetune import FineTuning


@with_threads
def finetune(options: FinetuneOptions) -> RunFolder:
    """Train a segmentation model and save it in `options.out`.

    Raises:
        StoreError, SplitError, RunError, DeviceError, OptionError: see `frugalseg.errors`; before any training. Also if
            the promptable model `options.refine` is unknown or not installed.
        InterruptedRunError: stopped by the user; resumable.
    """
    if options.refine is None:
        return run_training(FineTuning.open(options))
    from frugalseg.promptable.load import resolve_name
    from frugalseg.refinement.pseudo_labels import PseudoLabelRefiner

    options = replace(options, refine=resolve_name(options.refine))  # checked before hours of training
    training = FineTuning.open(options)
    if training.options.refine is not None:
        refiner = PseudoLabelRefiner(training.store, training.options, training.fabric.device)
        training = replace(training, refiner=refiner)
    return run_training(training)
