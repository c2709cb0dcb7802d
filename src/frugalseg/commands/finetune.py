"""`frugalseg finetune`, with or without promptable models that refine pseudo-labels or propagate outlined slices.

It is in this package because `segmentation` may not import `promptable`.
"""

from __future__ import annotations

from dataclasses import replace

from frugalseg.engine.progress import say
from frugalseg.engine.run import RunFolder
from frugalseg.engine.threads import with_threads
from frugalseg.engine.training import run_training
from frugalseg.options import FinetuneOptions
from frugalseg.segmentation.finetune import FineTuning

FOLD_FOLDER = "fold-"
"""Beginning of the names of the folds' run folders."""
EMBEDDINGS_FOLDER = "embeddings"
"""Subfolder of the store for the embeddings of --propagate, without --cache."""


@with_threads
def finetune(options: FinetuneOptions) -> RunFolder | list[RunFolder]:
    """Train a segmentation model and save it in `options.out`; or one for each of `options.folds`, in a folder there.

    Raises:
        StoreError, SplitError, RunError, DeviceError, OptionError: see `frugalseg.errors`; before any training. Also if
            a promptable model, `options.refine` or `options.propagate`, is unknown or not installed.
        InterruptedRunError: stopped by the user; resumable.
    """
    options = _resolve_names(options)  # names are checked before hours of training
    if options.folds is None or options.fold is not None:
        return _train(options)
    return [_train(_choose_fold(options, fold)) for fold in range(options.folds)]


def _train(options: FinetuneOptions) -> RunFolder:
    return run_training(_add_propagator(_add_refiner(FineTuning.open(options))))


def _choose_fold(options: FinetuneOptions, fold: int) -> FinetuneOptions:
    """The options of one fold; when resuming, later folds may not have begun."""
    say(f"fold {fold} (the first of {options.folds} is 0)")
    resume = "auto" if options.resume == "yes" else options.resume
    return replace(options, fold=fold, out=options.out / f"{FOLD_FOLDER}{fold}", resume=resume)


def _resolve_names(options: FinetuneOptions) -> FinetuneOptions:
    """The options with names or absolute paths of promptable models."""
    if options.refine is None and options.propagate is None:
        return options
    from frugalseg.promptable.load import resolve_name  # transformers takes seconds to import

    refine, propagate = (name and resolve_name(name) for name in (options.refine, options.propagate))
    return replace(options, refine=refine, propagate=propagate)


def _add_refiner(training: FineTuning) -> FineTuning:
    if training.options.refine is None:
        return training
    from frugalseg.refinement.pseudo_labels import PseudoLabelRefiner

    refiner = PseudoLabelRefiner(training.store, training.options, training.fabric.device)
    return replace(training, refiner=refiner)


def _add_propagator(training: FineTuning) -> FineTuning:
    if training.options.propagate is None:
        return training
    from frugalseg.propagation.pseudo_labels import OutlinePropagator

    cache = training.options.cache or training.store.folder / EMBEDDINGS_FOLDER
    propagator = OutlinePropagator(training.store, training.options, training.fabric.device, cache)
    return replace(training, propagator=propagator)
