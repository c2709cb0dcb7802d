"""The plans that are part of the package, known by name."""

from __future__ import annotations

from pathlib import Path

from frugalseg.errors import OptionError
from frugalseg.text import join_words

SHIPPED_PLANS = Path(__file__).resolve().parents[1] / "shipped_plans"
"""Folder of the plans; beside them, `folds/` has the splits that some of them use."""


def find_plan(given: Path) -> Path:
    """The file of a plan, given by its path or by the name of a plan of the package.

    A file of the same name in the working folder has precedence; a folder has not, since it may be the study's --out.

    Raises:
        OptionError: there is neither a file nor a plan of this name.
    """
    known = {path.stem: path for path in sorted(SHIPPED_PLANS.glob("*.yaml"))}
    if given.is_file():
        return given
    if str(given) in known:
        return known[str(given)]
    if given.is_dir():
        raise OptionError(f"--plan {given} is a folder", "give a plan, a YAML file")
    raise OptionError(
        f"--plan {given}: there is no such file",
        f"did you mean the plan `{given.stem}` of the package?"
        if given.stem in known
        else f"check the path, or give the name of a plan of the package: {join_words(list(known), 'or')}",
    )
