"""Options of every command, one file per command.

The docstring under a field is its `--help` text, the annotation is checked, and run folders keep the dataclass as
`config.yaml`. Nothing here may import torch.
"""

from __future__ import annotations

from frugalseg.options.annotate import AnnotateOptions
from frugalseg.options.calibrate import CalibrateOptions
from frugalseg.options.common import (
    Choose,
    Keep,
    Modality,
    Norm,
    Pieces,
    Precision,
    Resume,
    Semi,
    TrainingOptions,
    check_positive,
    parse_slice_numbers,
)
from frugalseg.options.completion import CompletionOptions
from frugalseg.options.demo import DemoOptions
from frugalseg.options.doctor import DoctorOptions
from frugalseg.options.evaluate import EvaluateOptions
from frugalseg.options.export import ExportFormat, ExportOptions
from frugalseg.options.finetune import FinetuneOptions
from frugalseg.options.outputs import MaskOutputOptions, OutputType
from frugalseg.options.predict import PredictOptions
from frugalseg.options.prepare import PrepareOptions, SuperpixelOptions, check_segments
from frugalseg.options.pretrain import OPEN_CHOICES, PretrainOptions
from frugalseg.options.promptable import PromptableOptions
from frugalseg.options.propagate import PropagateOptions
from frugalseg.options.refine import RefineOptions
from frugalseg.options.sam_mix import SamMixEvaluateOptions, SamMixPredictOptions, SamMixTrainOptions
from frugalseg.options.share import PullOptions, PushOptions, find_folder
from frugalseg.options.study import ReportOptions, StudyOptions, StudyStatusOptions
from frugalseg.options.suggest import SuggestOptions
from frugalseg.options.weights import (
    WeightsFetchOptions,
    WeightsImportOptions,
    WeightsListOptions,
    WeightsVerifyOptions,
)

__all__ = [
    "OPEN_CHOICES",
    "AnnotateOptions",
    "CalibrateOptions",
    "Choose",
    "CompletionOptions",
    "DemoOptions",
    "DoctorOptions",
    "EvaluateOptions",
    "ExportFormat",
    "ExportOptions",
    "FinetuneOptions",
    "Keep",
    "MaskOutputOptions",
    "Modality",
    "Norm",
    "OutputType",
    "Pieces",
    "Precision",
    "PredictOptions",
    "PrepareOptions",
    "PretrainOptions",
    "PromptableOptions",
    "PropagateOptions",
    "PullOptions",
    "PushOptions",
    "RefineOptions",
    "ReportOptions",
    "Resume",
    "SamMixEvaluateOptions",
    "SamMixPredictOptions",
    "SamMixTrainOptions",
    "Semi",
    "StudyOptions",
    "StudyStatusOptions",
    "SuggestOptions",
    "SuperpixelOptions",
    "TrainingOptions",
    "WeightsFetchOptions",
    "WeightsImportOptions",
    "WeightsListOptions",
    "WeightsVerifyOptions",
    "check_positive",
    "check_segments",
    "find_folder",
    "parse_slice_numbers",
]
