"""Files on the Hugging Face Hub. huggingface_hub follows its own settings: HF_ENDPOINT, HF_HUB_OFFLINE, proxies."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from frugalseg.engine.progress import console, say
from frugalseg.errors import RunError
from frugalseg.weights.catalogue import CatalogueEntry, HubRevision
from frugalseg.weights.folder import download_folder, manual_instructions, weights_folder


def fetch_from_hub(name: str, entry: CatalogueEntry, hub: HubRevision) -> Path:
    """Download a file of a revision of a repository.

    Returns:
        The complete file, in a folder that is kept until `remove_download`; its SHA-256 is not checked yet.

    Raises:
        RunError: the download failed; the part received is kept for the next attempt.
    """
    from huggingface_hub import hf_hub_download  # takes a second to import
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

    folder = download_folder(name)
    say(f"fetching {entry.file} ({entry.megabytes} MB) from {hub.repo} on the Hugging Face Hub")
    if not console.is_interactive:
        disable_progress_bars()
    cure = (
        "check the connection; the same command continues where this one stopped; without internet: "
        f"{manual_instructions(name, entry)}; the weights are then kept in {weights_folder()}"
    )
    try:
        with hub_errors(f"{entry.file} ({entry.megabytes} MB) of {hub.repo} on the Hugging Face Hub", cure):
            return Path(hf_hub_download(hub.repo, entry.file, revision=hub.revision, local_dir=folder, token=False))
    except RunError:
        if not any(folder.rglob("*.incomplete")):
            shutil.rmtree(folder, ignore_errors=True)
        raise


@contextmanager
def hub_errors(what: str, cure: str) -> Iterator[None]:
    """Turn the errors of the Hub and of the connection, while something is fetched or published, into a `RunError`."""
    from huggingface_hub.errors import HfHubHTTPError

    # Its bases are OSError and the root of the errors of the HTTP library, which another version of the Hub changes.
    failures: Any = (*HfHubHTTPError.__bases__, ValueError)
    try:
        yield
    except failures as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise RunError(f"{what}: {reason[0]}", cure) from error
