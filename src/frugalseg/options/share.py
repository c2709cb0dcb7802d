"""Options of `push` and `pull`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from frugalseg.errors import OptionError

REPO = re.compile(r"[\w.-]+/[\w.-]+")


def check_repo(repo: str) -> None:
    """Raise `OptionError` for what is neither a repository's name nor a path that begins with . or /."""
    if find_folder(repo) is None and not REPO.fullmatch(repo):
        raise OptionError(f"--repo {repo}", "give owner/name of the Hugging Face Hub, or a folder as ./name or /path")


def find_folder(repo: str) -> Path | None:
    """The folder that `repo` names, or None for a repository of the Hub."""
    return Path(repo).expanduser() if repo.startswith((".", "/", "~")) or Path(repo).is_absolute() else None


@dataclass(frozen=True, kw_only=True)
class PushOptions:
    """Publish a trained model with a model card on the Hugging Face Hub, or write the same into a folder."""

    repo: str
    """Repository on the Hub, as owner/name, which is created if missing; or a folder, beginning with . or /; may be
    given as first argument without the flag."""
    model: Path
    """Run of `frugalseg finetune`."""
    evaluation: Path | None = None
    """Folder of `frugalseg evaluate`, whose figures the model card then states."""
    data_licence: str | None = None
    """Licence of the scans and masks of the training, for example CC-BY-4.0; without it the card says that it is not
    stated."""
    licence: str | None = None
    """Licence under which you publish the model, as an identifier of the Hub, for example apache-2.0; without it the
    card says that it is not stated."""
    keep_names: bool = False
    """Keep the case ids; otherwise pseudonyms replace them."""
    private: bool = False
    """Create the repository as a private one."""
    overwrite: bool = False
    """Write into a folder that already holds a model."""

    def __post_init__(self) -> None:
        check_repo(self.repo)


@dataclass(frozen=True, kw_only=True)
class PullOptions:
    """Fetch a model that `push` published, to predict with it."""

    repo: str
    """Repository on the Hub, as owner/name, or a folder, beginning with . or /; may be given as first argument without
    the flag."""
    out: Path
    """Folder to write; give it to `predict --model`."""
    revision: str | None = None
    """Revision to fetch, as `push` and `pull` print it; by default the latest, which is printed and recorded."""

    def __post_init__(self) -> None:
        check_repo(self.repo)
