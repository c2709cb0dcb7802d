"""The trainings that a plan may name."""

from __future__ import annotations

from frugalseg.studies.plan.method import StudyTraining
from frugalseg.studies.trainings.finetune import Finetune
from frugalseg.studies.trainings.sam_mix import SamMix

DEFAULT = Finetune.KEY
"""Key of the training of methods that name none."""

TRAININGS: dict[str, type[StudyTraining]] = {training.KEY: training for training in (Finetune, SamMix)}
"""Key of a method in a plan → its training. To add one, write a class in a separate file and enter it here."""
