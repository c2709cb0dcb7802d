"""The trainings that a plan may name."""

from __future__ import annotations

from frugalseg.studies.plan.method import Training
from frugalseg.studies.trainings.finetune import Finetune
from frugalseg.studies.trainings.sam_mix import SamMix

DEFAULT = Finetune.KEY
"""What a method that names none is trained by."""

TRAININGS: dict[str, type[Training]] = {training.KEY: training for training in (Finetune, SamMix)}
"""Key of a method in a plan → its training. Another one is a class in a file of its own, and its name here."""
