"""The table of commands: name → options and the module whose function of that name does it.

A command of a command (`study status`) is a name of two words; its function has an underscore between them.
"""

from __future__ import annotations

import shlex
from dataclasses import MISSING, dataclass, fields
from typing import Any

from frugalseg import options


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        options: dataclass of its options; its docstring is what the command does.
        module: where the function lies; imported only when the command runs.
        first: the option that a first argument without a flag stands for, if any.
    """

    options: type[Any]
    module: str
    first: str = ""

    @property
    def summary(self) -> str:
        """What the command does, in one line."""
        return (self.options.__doc__ or "").strip().splitlines()[0]


def function_of(name: str) -> str:
    """The name of the function that does the command: `sam-mix train` is `sam_mix_train`."""
    return name.replace(" ", "_").replace("-", "_")


def command_line(name: str, given: Any) -> str:
    """The line that runs a command with these options, to be copied into a shell; defaults are left out."""
    words = ["frugalseg", *name.split()]
    for field in fields(given):
        value = getattr(given, field.name)
        if value == (field.default if field.default_factory is MISSING else field.default_factory()):
            continue
        words += _flag("--" + field.name.replace("_", "-"), value)
    return shlex.join(words)


def _flag(flag: str, value: object) -> list[str]:
    """An option as it is typed."""
    if isinstance(value, bool):
        return [flag] if value else [f"{flag}=false"]
    if isinstance(value, (list, tuple)):
        return [flag, *map(str, value)]
    # A value that begins like a flag must hang on its own one.
    return [f"{flag}={value}"] if str(value).startswith("-") else [flag, str(value)]


COMMANDS = {
    "demo": Command(options.DemoOptions, "frugalseg.demo.run"),
    "prepare": Command(options.PrepareOptions, "frugalseg.dataset.prepare"),
    "prepare superpixels": Command(options.SuperpixelOptions, "frugalseg.dataset.superpixels", first="data"),
    "pretrain": Command(options.PretrainOptions, "frugalseg.contrast.pretrain"),
    "finetune": Command(options.FinetuneOptions, "frugalseg.sam.finetune"),
    "predict": Command(options.PredictOptions, "frugalseg.sam.predict"),
    "refine": Command(options.RefineOptions, "frugalseg.sam.refine"),
    "propagate": Command(options.PropagateOptions, "frugalseg.sam.propagate"),
    "evaluate": Command(options.EvaluateOptions, "frugalseg.evaluate.evaluate"),
    "sam-mix train": Command(options.SamMixTrainOptions, "frugalseg.sam.mix.train"),
    "sam-mix predict": Command(options.SamMixPredictOptions, "frugalseg.sam.mix.predict"),
    "sam-mix evaluate": Command(options.SamMixEvaluateOptions, "frugalseg.sam.mix.judge"),
    "study": Command(options.StudyOptions, "frugalseg.study.run", first="plan"),
    "study status": Command(options.StudyStatusOptions, "frugalseg.study.status", first="folder"),
    "report": Command(options.ReportOptions, "frugalseg.study.run", first="folder"),
    "weights list": Command(options.WeightsListOptions, "frugalseg.sam.weights"),
    "weights fetch": Command(options.WeightsFetchOptions, "frugalseg.sam.weights", first="name"),
    "weights import": Command(options.WeightsImportOptions, "frugalseg.sam.weights", first="file"),
    "weights verify": Command(options.WeightsVerifyOptions, "frugalseg.sam.weights", first="name"),
}
