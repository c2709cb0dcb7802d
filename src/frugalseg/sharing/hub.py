"""A published model on the Hugging Face Hub, or the same files in a local folder."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from frugalseg.engine.files import MODEL_FILE, sha256
from frugalseg.errors import RunError, disk_errors
from frugalseg.models.saved import WEIGHTS
from frugalseg.options import find_folder
from frugalseg.weights.hub import hub_errors

CARD = "README.md"
FILES = (WEIGHTS, MODEL_FILE, CARD)
"""All that is published; nothing else is ever fetched."""


def upload(folder: Path, repo: str, private: bool) -> str:
    """Publish the files of `folder`; returns the revision.

    Raises:
        RunError: the Hub refuses, or cannot be reached.
    """
    target = find_folder(repo)
    if target is not None:
        with disk_errors(target):
            target.mkdir(parents=True, exist_ok=True)
            for name in FILES:
                shutil.copyfile(folder / name, target / name)
        return content_revision(target)
    from huggingface_hub import HfApi  # takes a second to import

    with hub_errors(f"the Hugging Face Hub and {repo}", "log in with `hf auth login`, and check the name"):
        hub = HfApi()
        hub.create_repo(repo, private=private, exist_ok=True)
        made = hub.upload_folder(
            repo_id=repo, folder_path=folder, allow_patterns=list(FILES), commit_message="Published by frugalseg"
        )
    return str(made.oid)


def download(repo: str, revision: str | None, folder: Path) -> str:
    """Fetch the files into `folder`; returns the revision.

    Raises:
        RunError: there is no such repository or revision, files are missing, or the Hub cannot be reached.
    """
    source = find_folder(repo)
    if source is not None:
        _copy(source, revision, folder)
        return content_revision(folder)
    from huggingface_hub import HfApi

    with hub_errors(f"the Hugging Face Hub and {repo}", "check the name and --revision, and the connection"):
        hub = HfApi()
        # First to a commit, so that files of one revision are fetched even while another is published.
        commit = str(hub.model_info(repo, revision=revision).sha)
        hub.snapshot_download(repo, revision=commit, local_dir=folder, allow_patterns=list(FILES))
    shutil.rmtree(folder / ".cache", ignore_errors=True)
    if missing := [name for name in FILES[:2] if not (folder / name).is_file()]:
        raise RunError(f"{repo} holds no {missing[0]}", "give a repository that `frugalseg push` made")
    return commit


def content_revision(folder: Path) -> str:
    """The revision of a local folder: the SHA-256 of its files' SHA-256."""
    return hashlib.sha256("\n".join(sha256(folder / name) for name in FILES).encode()).hexdigest()


def _copy(source: Path, revision: str | None, folder: Path) -> None:
    if missing := [name for name in FILES if not (source / name).is_file()]:
        raise RunError(f"{source} holds no {missing[0]}", "give a folder that `frugalseg push` made")
    if revision is not None and (found := content_revision(source)) != revision:
        raise RunError(
            f"{source} holds revision {found}, --revision {revision} was given",
            "get the folder of that revision, or leave out --revision",
        )
    for name in FILES:
        shutil.copyfile(source / name, folder / name)
