"""The table of commands: name → options, and the module with the function of that name.

Names may have two words (`study status`); the function then has an underscore between them.
"""

from __future__ import annotations

import shlex
from dataclasses import MISSING, Field, dataclass, fields
from typing import Any

from frugalseg import options


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        options: dataclass of its options; its docstring describes the command.
        module: module of the function; imported only when the command runs.
        group: the heading under which `frugalseg --help` lists it.
        example: a command line.
        first: the option that a first argument without a flag is the value of, if any.
    """

    options: type[Any]
    module: str
    group: str
    example: str
    first: str = ""

    @property
    def summary(self) -> str:
        """What the command does, in one line."""
        return self.description.splitlines()[0]

    @property
    def description(self) -> str:
        """What the command does."""
        return (self.options.__doc__ or "").strip()


def required_options(command: Command) -> list[str]:
    """Names of the options without a default."""
    return [f.name for f in fields(command.options) if f.default is MISSING and f.default_factory is MISSING]


def function_name(name: str) -> str:
    """The name of a command's function: `sam_mix_train` for `sam-mix train`."""
    return name.replace(" ", "_").replace("-", "_")


def format_command(name: str, given: Any) -> str:
    """The shell command line that runs a command with these options; defaults are omitted."""
    words = ["frugalseg", *name.split()]
    for field in fields(given):
        value = getattr(given, field.name)
        if is_default(field, value):
            continue
        words += _format_option(to_flag(field.name), value)
    return shlex.join(words)


def is_default(field: Field[Any], value: object) -> bool:
    """Whether an option has its default."""
    return value == (field.default if field.default_factory is MISSING else field.default_factory())


def to_flag(option: str) -> str:
    """The flag of an option; one whose name is a word of Python ends with an underscore: `for_` is --for."""
    return "--" + option.rstrip("_").replace("_", "-")


def _format_option(flag: str, value: object) -> list[str]:
    """An option as words of a command line."""
    if isinstance(value, bool):
        return [flag] if value else [f"{flag}=false"]
    if isinstance(value, (list, tuple)):
        return [flag, *map(str, value)]
    # A value that begins with "-" must be attached to its flag.
    return [f"{flag}={value}"] if str(value).startswith("-") else [flag, str(value)]


_ANNOTATE = "outline slices"
_START, _DATA, _TRAIN = "the whole workflow", "prepare data", "train"
_MASKS, _EVALUATE = "make and refine masks", "evaluate"
_SHARE = "export and share"
_SHELL = "your shell"
_MIX, _STUDY, _WEIGHTS = "SAM-Mix", "compare methods", "weights of promptable models"
_HELP = "if something does not work"

COMMANDS = {
    "demo": Command(
        options.DemoOptions,
        "frugalseg.commands.demo",
        _START,
        "frugalseg demo --images scans --labels masks --target liver=6",
    ),
    "annotate": Command(
        options.AnnotateOptions,
        "frugalseg.annotation.serve",
        _START,
        "frugalseg annotate --images scans --target liver=6",
    ),
    "prepare": Command(
        options.PrepareOptions,
        "frugalseg.dataset.prepare",
        _DATA,
        "frugalseg prepare --images scans --labels masks --target liver=6 --out store",
    ),
    "prepare superpixels": Command(
        options.SuperpixelOptions,
        "frugalseg.dataset.superpixels",
        _DATA,
        "frugalseg prepare superpixels store",
        first="data",
    ),
    "pretrain": Command(
        options.PretrainOptions,
        "frugalseg.pretraining.pretrain",
        _TRAIN,
        "frugalseg pretrain --data store --method polycl-m --epochs 100 --out pretrained",
    ),
    "finetune": Command(
        options.FinetuneOptions,
        "frugalseg.commands.finetune",
        _TRAIN,
        'frugalseg finetune --data store --budget "3 scans" --preset best --out model',
    ),
    "calibrate": Command(
        options.CalibrateOptions,
        "frugalseg.commands.calibrate",
        _TRAIN,
        "frugalseg calibrate --model model --data store --refine litemedsam",
    ),
    "predict": Command(
        options.PredictOptions,
        "frugalseg.commands.predict",
        _MASKS,
        "frugalseg predict --model model --images scans --out predictions",
    ),
    "refine": Command(
        options.RefineOptions,
        "frugalseg.refinement.refine",
        _MASKS,
        "frugalseg refine --images scans --masks predictions --out refined",
    ),
    "propagate": Command(
        options.PropagateOptions,
        "frugalseg.propagation.propagate",
        _MASKS,
        "frugalseg propagate --images scans --annotations slices --out propagated",
    ),
    "suggest": Command(
        options.SuggestOptions,
        "frugalseg.suggestion.suggest",
        _ANNOTATE,
        "frugalseg suggest --data store --budget 5 --out suggestions",
    ),
    "evaluate": Command(
        options.EvaluateOptions,
        "frugalseg.evaluation.evaluate",
        _EVALUATE,
        "frugalseg evaluate --predictions predictions --references masks --target liver=6 --out evaluation",
    ),
    "export": Command(
        options.ExportOptions,
        "frugalseg.sharing.export",
        _SHARE,
        "frugalseg export --model model --format onnx --out exported",
    ),
    "push": Command(
        options.PushOptions,
        "frugalseg.sharing.publish",
        _SHARE,
        "frugalseg push me/liver-ct --model model --evaluation evaluation --licence cc-by-4.0",
        first="repo",
    ),
    "pull": Command(
        options.PullOptions,
        "frugalseg.sharing.publish",
        _SHARE,
        "frugalseg pull me/liver-ct --out model",
        first="repo",
    ),
    "sam-mix train": Command(
        options.SamMixTrainOptions,
        "frugalseg.sam_mix.train",
        _MIX,
        'frugalseg sam-mix train --data store --budget "50 slices" --out sam-mix',
    ),
    "sam-mix predict": Command(
        options.SamMixPredictOptions,
        "frugalseg.sam_mix.predict",
        _MIX,
        "frugalseg sam-mix predict --model sam-mix --images scans --out predictions",
    ),
    "sam-mix evaluate": Command(
        options.SamMixEvaluateOptions,
        "frugalseg.sam_mix.evaluate",
        _MIX,
        "frugalseg sam-mix evaluate --predictions predictions --references masks --out detection.json",
    ),
    "study": Command(
        options.StudyOptions,
        "frugalseg.studies.run",
        _STUDY,
        "frugalseg study smoke --out smoke --jobs 2",
        first="plan",
    ),
    "study status": Command(
        options.StudyStatusOptions,
        "frugalseg.studies.status",
        _STUDY,
        "frugalseg study status smoke",
        first="folder",
    ),
    "report": Command(
        options.ReportOptions,
        "frugalseg.studies.run",
        _STUDY,
        "frugalseg report smoke",
        first="folder",
    ),
    "weights list": Command(
        options.WeightsListOptions,
        "frugalseg.weights.commands",
        _WEIGHTS,
        "frugalseg weights list",
    ),
    "weights fetch": Command(
        options.WeightsFetchOptions,
        "frugalseg.weights.commands",
        _WEIGHTS,
        "frugalseg weights fetch litemedsam",
        first="name",
    ),
    "weights import": Command(
        options.WeightsImportOptions,
        "frugalseg.weights.commands",
        _WEIGHTS,
        "frugalseg weights import medsam_vit_b.pth",
        first="file",
    ),
    "weights verify": Command(
        options.WeightsVerifyOptions,
        "frugalseg.weights.commands",
        _WEIGHTS,
        "frugalseg weights verify",
        first="name",
    ),
    "completion": Command(
        options.CompletionOptions,
        "frugalseg.commands.completion",
        _SHELL,
        "frugalseg completion bash",
        first="shell",
    ),
    "doctor": Command(
        options.DoctorOptions,
        "frugalseg.diagnosis.doctor",
        _HELP,
        "frugalseg doctor",
    ),
}
