"""Which organs' calibrations apply to the masks of a command, and why the others do not, said once."""

from __future__ import annotations

from collections.abc import Mapping

from frugalseg.confidence.calibration import SCANS_NEEDED
from frugalseg.engine.progress import say
from frugalseg.options import Keep
from frugalseg.records.confidence import OrganCalibration
from frugalseg.text import join_words

RANK_ONLY = "the confidence ranks masks and slices, but promises no Dice"


def select_calibrations(
    known: Mapping[str, OrganCalibration], keep: Mapping[str, Keep], averaged: bool
) -> dict[str, OrganCalibration]:
    """Organ → its calibration, of the organs that are written.

    Args:
        known: of the model.
        keep: organ that is written → its post-processing.
        averaged: whether predictions are averaged over flips or rotations, unlike those of the calibration.
    """
    if not known:
        say(f"this model was not calibrated on validation patients: {RANK_ONLY}")
        return {}
    if averaged:
        say(f"the model was calibrated without test-time augmentation (--tta): {RANK_ONLY}")
        return {}
    applying = {organ: known[organ] for organ, kept in keep.items() if organ in known and known[organ].keep == kept}
    if others := [organ for organ in keep if organ not in known]:
        say(f"{join_words(others)}: in no mask of a validation patient, so not calibrated: {RANK_ONLY}")
    if changed := [organ for organ in keep if organ in known and organ not in applying]:
        say(f"{join_words(changed)}: the model was calibrated with another --keep: {RANK_ONLY}")
    few = [organ for organ, calibration in applying.items() if calibration.scans.bound is None]
    if few:
        fewest = min(applying[organ].patients for organ in few)
        say(
            f"no lower bound for whole scans: one that holds in 9 of 10 needs {SCANS_NEEDED} patients, this "
            f"calibration has {fewest}. Slices have one"
        )
    return applying
