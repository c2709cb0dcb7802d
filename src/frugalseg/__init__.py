"""frugalseg: medical image segmentation from very few annotations.

One function a command, each taking that command's options:

    from frugalseg import prepare
    from frugalseg.options import PrepareOptions
    store = prepare(PrepareOptions(images=..., labels=..., target=["liver=6"], out=...))

The function of a command of two words has an underscore between them: `weights_fetch`. They are imported on first use,
so that `import frugalseg` stays quick.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from frugalseg._version import __version__
from frugalseg.commands import COMMANDS, function_of
from frugalseg.engine.threads import wait_passively

if TYPE_CHECKING:
    from frugalseg.contrast.pretrain import pretrain
    from frugalseg.dataset.prepare import prepare
    from frugalseg.dataset.superpixels import prepare_superpixels
    from frugalseg.demo.run import demo
    from frugalseg.evaluate.evaluate import evaluate
    from frugalseg.sam.finetune import finetune
    from frugalseg.sam.mix.judge import sam_mix_evaluate
    from frugalseg.sam.mix.predict import sam_mix_predict
    from frugalseg.sam.mix.train import sam_mix_train
    from frugalseg.sam.predict import predict
    from frugalseg.sam.propagate import propagate
    from frugalseg.sam.refine import refine
    from frugalseg.sam.weights import weights_fetch, weights_import, weights_list, weights_verify
    from frugalseg.study.run import report, study
    from frugalseg.study.status import study_status

__all__ = [
    "__version__",
    "demo",
    "evaluate",
    "finetune",
    "predict",
    "prepare",
    "prepare_superpixels",
    "pretrain",
    "propagate",
    "refine",
    "report",
    "sam_mix_evaluate",
    "sam_mix_predict",
    "sam_mix_train",
    "study",
    "study_status",
    "weights_fetch",
    "weights_import",
    "weights_list",
    "weights_verify",
]

_FUNCTIONS = {function_of(name): command.module for name, command in COMMANDS.items()}


def __getattr__(name: str) -> Any:
    if name in _FUNCTIONS:
        wait_passively()  # heard only where PyTorch is not loaded yet
        return getattr(import_module(_FUNCTIONS[name]), name)
    raise AttributeError(f"module 'frugalseg' has no attribute {name!r}")


class _Api(ModuleType):
    """This module, in which a command's name stays the command.

    Some commands have the name of the folder they lie in, and importing a folder sets it as an attribute here.
    `from frugalseg.evaluate.metrics import …` does not need that attribute.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _FUNCTIONS and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Api
