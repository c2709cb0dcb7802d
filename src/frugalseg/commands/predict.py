"""`frugalseg predict` for every kind of model, with or without refinement.

It is in this package because `segmentation` may not import `promptable`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from frugalseg.dataset.targets import parse_targets
from frugalseg.engine.files import check_out
from frugalseg.engine.lock import is_in_use
from frugalseg.engine.threads import with_threads
from frugalseg.errors import RunError, ScanError
from frugalseg.masks.folder import find_images, select_cases
from frugalseg.masks.output import check_output
from frugalseg.options import PredictOptions, RefineOptions
from frugalseg.records.any_model import read_model
from frugalseg.records.networks import EncoderRecord
from frugalseg.records.predictions import PredictionRecord
from frugalseg.sam_mix.predict_options import is_sam_mix, sam_mix_options
from frugalseg.segmentation.predict import segment_scans

UNREFINED: dict[str, Any] = {"output_type": "scan", "segment_codes": None, "preview": False}
"""Options of masks that are refined: they are read again."""


@with_threads
def predict(options: PredictOptions) -> dict[str, Path]:
    """Segment every scan, and refine the masks with the model of --refine, if given; returns case id → mask.

    Refined masks are in `out`, unrefined ones in `out/coarse`; each folder has its predictions.json.

    Raises:
        ScanError: some scans failed, after all others are written.
        RunError, OptionError, DeviceError: see `segmentation.predict.segment_scans`, `sam_mix_predict` and `refine`; or
            the model does not support an option.
    """
    check_out(options.out)
    if options.refine is None:
        return _predict_unrefined(options)
    from frugalseg.promptable.load import find_weights
    from frugalseg.refinement.refine import COARSE, refine

    find_weights(options.refine)  # errors before hours of prediction
    images = select_cases(find_images(options.images, options.series), options.case, options.images)
    model = read_model(options.runs[0])
    trained = {} if isinstance(model, EncoderRecord) else model.targets
    check_output(options, images, parse_targets(options.target) or trained)
    coarse = options.out / COARSE
    if is_in_use(options.out, COARSE) and options.resume == "no" and not options.overwrite:
        raise RunError(f"{options.out} is in use", "choose another --out, or give --overwrite")
    broken: ScanError | None = None
    try:
        predicted = list(_predict_unrefined(replace(options, refine=None, out=coarse, **UNREFINED)))
    except ScanError as error:
        record = PredictionRecord.read_beside(coarse)
        made = record.masks if record else {}
        # Without masks of an earlier prediction, and without scans that are not requested.
        predicted = [case for case in options.case or made if case in made]
        if not predicted:
            raise
        broken = error  # raised after the other scans are refined
    scale = read_model(options.runs[0]).preprocessing.intensity
    limits = (scale.low, scale.high)
    refined = refine(
        RefineOptions(
            images=options.images,
            series=options.series,
            masks=coarse,
            out=options.out,
            model=options.refine,
            case=predicted,
            device=options.device,
            ray=options.ray,
            precision=options.precision,
            overwrite=options.overwrite,
            resume="no" if options.resume == "no" else "auto",
            modality=scale.kind,
            window=limits if scale.kind == "ct" else None,
            percentiles=limits if scale.kind == "mr" else None,
            output_type=options.output_type,
            segment_codes=options.segment_codes,
            preview=options.preview,
        )
    )
    if broken is not None:
        raise broken
    return refined


def _predict_unrefined(options: PredictOptions) -> dict[str, Path]:
    """Masks of the trained model alone, of whichever kind it is."""
    if is_sam_mix(options.runs[0]):
        from frugalseg.sam_mix.predict import sam_mix_predict  # imports transformers, which takes seconds

        return sam_mix_predict(sam_mix_options(options))
    return segment_scans(options)
