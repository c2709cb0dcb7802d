"""The mask makers that a plan may name."""

from __future__ import annotations

from frugalseg.studies.mask_makers.average import Average
from frugalseg.studies.mask_makers.other_masks import OtherMasks
from frugalseg.studies.mask_makers.predict_again import PredictAgain
from frugalseg.studies.mask_makers.propagate import Propagate
from frugalseg.studies.mask_makers.refine import Refine
from frugalseg.studies.plan.method import MaskMaker

MASK_MAKERS: dict[str, type[MaskMaker]] = {
    maker.KEY: maker for maker in (Average, Refine, Propagate, PredictAgain, OtherMasks)
}
"""Key of a method in a plan → its mask maker. To add one, write a class in a separate file and enter it here."""
