"""frugalseg: medical image segmentation from very few annotations.

One function per command, which takes the command's options:

    from frugalseg import prepare
    from frugalseg.options import PrepareOptions
    store = prepare(PrepareOptions(images=..., labels=..., target=["liver=6"], out=...))

The function of a command of two words has an underscore between them: `weights_fetch`. They are imported on first use,
so that `import frugalseg` stays quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from frugalseg._version import __version__
from frugalseg.commands.table import COMMANDS, function_name
from frugalseg.engine.threads import wait_passively

if TYPE_CHECKING:
    from frugalseg.commands.calibrate import calibrate
    from frugalseg.commands.demo import demo
    from frugalseg.commands.finetune import finetune
    from frugalseg.commands.predict import predict
    from frugalseg.dataset.prepare import prepare
    from frugalseg.dataset.superpixels import prepare_superpixels
    from frugalseg.diagnosis.doctor import doctor
    from frugalseg.evaluation.evaluate import evaluate
    from frugalseg.pretraining.pretrain import pretrain
    from frugalseg.propagation.propagate import propagate
    from frugalseg.refinement.refine import refine
    from frugalseg.sam_mix.evaluate import sam_mix_evaluate
    from frugalseg.sam_mix.predict import sam_mix_predict
    from frugalseg.sam_mix.train import sam_mix_train
    from frugalseg.sharing.export import export
    from frugalseg.sharing.publish import pull, push
    from frugalseg.studies.run import report, study
    from frugalseg.studies.status import study_status
    from frugalseg.suggestion.suggest import suggest
    from frugalseg.weights.commands import weights_fetch, weights_import, weights_list, weights_verify

__all__ = [
    "__version__",
    "annotate",
    "calibrate",
    "demo",
    "doctor",
    "evaluate",
    "export",
    "finetune",
    "predict",
    "prepare",
    "prepare_superpixels",
    "pretrain",
    "propagate",
    "pull",
    "push",
    "refine",
    "report",
    "sam_mix_evaluate",
    "sam_mix_predict",
    "sam_mix_train",
    "study",
    "study_status",
    "suggest",
    "weights_fetch",
    "weights_import",
    "weights_list",
    "weights_verify",
]

_FUNCTIONS = {function_name(name): command.module for name, command in COMMANDS.items()}


def __getattr__(name: str) -> Any:
    if name in _FUNCTIONS:
        wait_passively()  # effective only if PyTorch is not loaded yet
        return getattr(import_module(_FUNCTIONS[name]), name)
    raise AttributeError(f"module 'frugalseg' has no attribute {name!r}")
