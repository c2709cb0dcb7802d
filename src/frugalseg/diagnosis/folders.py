"""The folders that frugalseg uses, and the weights that are installed."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from frugalseg.diagnosis.section import Facts, Problem, Section, hide_names
from frugalseg.errors import FrugalsegError
from frugalseg.weights.folder import find_installed, total_bytes, weights_folder

GIB = 1 << 30
LITTLE_GIB = 1.0


def describe_folders() -> Section:
    """The folders of weights and of temporary files, and the working folder: permissions and free space."""
    facts: Facts = {}
    problems = []
    weights = weights_folder()
    facts["weights"] = hide_names(weights)
    for name, folder in (("weights", weights), ("temporary files", Path(tempfile.gettempdir())), ("here", Path())):
        existing = next(one for one in (folder.resolve(), *folder.resolve().parents) if one.exists())
        facts[f"{name}: free GiB"] = round(free := shutil.disk_usage(existing).free / GIB, 1)
        facts[f"{name}: writable"] = writable = os.access(existing, os.W_OK | os.X_OK)
        shown = hide_names(folder) if name != "here" else "the working folder"
        if free < LITTLE_GIB:
            problems.append(
                Problem(f"{shown} has only {free:.1f} GiB of free space", "delete files there", breaks=False)
            )
        if not writable:
            problems.append(_describe_permission(name, shown))
    return Section(facts, problems)


def _describe_permission(name: str, shown: str) -> Problem:
    if name == "temporary files":
        return Problem(f"{shown} cannot be written", "set TMPDIR to a folder that can be written")
    if name == "weights":
        cure = "weights that are there can be used; to fetch others, set FRUGALSEG_HOME to another folder"
        return Problem(f"{shown} cannot be written", cure, breaks=False)
    return Problem(f"{shown} cannot be written", "give --out in another folder", breaks=False)


def describe_weights() -> Section:
    """The installed weights, and those whose files are not whole."""
    facts: Facts = {}
    problems = []
    try:
        installed = find_installed()
        for name, origin in installed.items():
            found = total_bytes(weights_folder() / name / origin.file)
            facts[name] = f"{found / 1e6:.0f} MB, {'checked' if origin.checked else 'SHA-256 not known'}"
            if found != origin.bytes:
                size = f"the weights {name} have {found} bytes instead of {origin.bytes}"
                problems.append(
                    Problem(size, f"delete {hide_names(weights_folder() / name)} and fetch or import them again")
                )
    except FrugalsegError as error:
        problems.append(Problem(hide_names(error.problem), hide_names(error.cure)))
    except OSError as error:
        found_error = f"{hide_names(error.filename or weights_folder())} cannot be read ({error.strerror})"
        problems.append(Problem(found_error, "correct its permissions, or set FRUGALSEG_HOME to another folder"))
    return Section(facts or {"installed": "none"}, problems)
