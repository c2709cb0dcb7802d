"""What `doctor` finds: facts in sections, and problems with what to do about them."""

from __future__ import annotations

import getpass
import re
from dataclasses import dataclass, field
from pathlib import Path

Facts = dict[str, str | int | float | bool | None]


@dataclass(frozen=True)
class Problem:
    """Something that is wrong.

    Attributes:
        problem: what was found, and what was expected.
        cure: what to do about it.
        breaks: whether commands fail because of it; otherwise something is slower or missing.
    """

    problem: str
    cure: str
    breaks: bool = True


@dataclass(frozen=True)
class Section:
    """Facts about one topic, and its problems."""

    facts: Facts = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def hide_names(path: Path | str) -> str:
    """A path without the name of a person: the home folder is ~, and a folder with the user's name is USER."""
    text = str(path)
    home = str(Path.home())
    if text == home or text.startswith((f"{home}/", f"{home}\\")):
        text = f"~{text[len(home) :]}"
    try:
        user = re.escape(getpass.getuser())
    except (KeyError, OSError, ImportError):  # an account without a name, as in some containers
        return text
    return re.sub(rf"(?<=[/\\]){user}(?=[/\\]|$)", "USER", text)
