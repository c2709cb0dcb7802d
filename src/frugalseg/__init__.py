"""frugalseg: medical image segmentation from very few annotations.

One function per command, with the command's options as keywords:

    import frugalseg

    store = frugalseg.prepare(images="scans", labels="masks", target=["liver=6"], out="store")
    run = frugalseg.finetune(data=store, budget="3 scans", preset="best", out="model")

`help(frugalseg.finetune)` shows the options. The function of a command of two words has an underscore between them:
`weights_fetch`. They also take a record of `frugalseg.options`.

`load` opens a trained model, which segments files and arrays without writing files:

    model = frugalseg.load("model")
    liver = model.predict("scan.nii.gz").organ("liver")

Everything is imported on first use, so that `import frugalseg` stays quick. Types are in `__init__.pyi`, which
`benchmarks/api_stub.py` writes.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from frugalseg._version import __version__
from frugalseg.commands.table import COMMANDS, function_name
from frugalseg.engine.threads import wait_passively

_FUNCTIONS = [function_name(name) for name in COMMANDS]
_OTHERS = {
    "FrugalsegError": "frugalseg.errors",
    "Model": "frugalseg.commands.load",
    "Prediction": "frugalseg.commands.load",
    "load": "frugalseg.commands.load",
    "load_plugin": "frugalseg.plugins",
}
"""Name → the module that has it."""

__all__ = ["__version__", *_OTHERS, *_FUNCTIONS]


def __getattr__(name: str) -> Any:
    wait_passively()  # effective only if PyTorch is not loaded yet
    if name in _OTHERS:
        found = getattr(import_module(_OTHERS[name]), name)
    elif name in _FUNCTIONS:
        from frugalseg.commands.functions import make_function

        found = make_function(name)
    else:
        raise AttributeError(f"module 'frugalseg' has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
