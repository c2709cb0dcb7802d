"""`frugalseg predict`, whatever the model, with or without refinement.

It is in this package because `segmentation` does not import promptable models.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from frugalseg.engine.files import check_out
from frugalseg.engine.lock import is_in_use
from frugalseg.engine.threads import with_threads
from frugalseg.errors import RunError, ScanError
from frugalseg.options import PredictOptions, RefineOptions
from frugalseg.records.model import read_model
from frugalseg.records.predictions import PredictionRecord
from frugalseg.sam_mix.predict_options import is_sam_mix, sam_mix_options
from frugalseg.segmentation.predict import segment_scans


@with_threads
def predict(options: PredictOptions) -> dict[str, Path]:
    """Segment every scan, and refine the masks where --refine names a model; returns case id → mask.

    Refined masks lie in `out`, those of the trained model alone in `out/coarse`; each folder has its note.

    Raises:
        ScanError: some scans failed, after all others are written.
        RunError, OptionError, DeviceError: see `segmentation.predict.segment_scans`, `sam_mix_predict` and `refine`; an
            option that the model knows nothing of.
    """
    check_out(options.out)
    if options.refine is None:
        return _predict_unrefined(options)
    from frugalseg.promptable.load import find_weights
    from frugalseg.refinement.refine import COARSE, refine

    find_weights(options.refine)  # before hours of predicting
    coarse = options.out / COARSE
    if is_in_use(options.out, COARSE) and options.resume == "no" and not options.overwrite:
        raise RunError(f"{options.out} is in use", "choose another --out, or give --overwrite")
    broken: ScanError | None = None
    try:
        there = list(_predict_unrefined(replace(options, refine=None, out=coarse)))
    except ScanError as error:
        record = PredictionRecord.read_beside(coarse)
        made = record.masks if record else {}
        # Not those left there by an older prediction, nor any that were not asked for.
        there = [case for case in options.case or made if case in made]
        if not there:
            raise
        broken = error  # the other scans are there, and are refined first
    shown = read_model(options.model).preprocessing.intensity
    limits = (shown.low, shown.high)
    refined = refine(
        RefineOptions(
            images=options.images,
            masks=coarse,
            out=options.out,
            model=options.refine,
            case=there,
            device=options.device,
            precision=options.precision,
            overwrite=options.overwrite,
            resume="no" if options.resume == "no" else "auto",
            modality=shown.kind,
            window=limits if shown.kind == "ct" else None,
            percentiles=limits if shown.kind == "mr" else None,
        )
    )
    if broken is not None:
        raise broken
    return refined


def _predict_unrefined(options: PredictOptions) -> dict[str, Path]:
    """Masks of the trained model alone, by what its run says it is."""
    if is_sam_mix(options.model):
        from frugalseg.sam_mix.predict import sam_mix_predict  # it imports transformers, which takes seconds

        return sam_mix_predict(sam_mix_options(options))
    return segment_scans(options)
