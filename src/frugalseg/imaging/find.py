"""Which scans there are, and which mask belongs to which: by case id, never by position in a list."""

from __future__ import annotations

import re
from pathlib import Path

from frugalseg.errors import PairingError, ScanError
from frugalseg.imaging.formats import SUFFIXES, dicom_files, is_dicom, suffix
from frugalseg.imaging.volume import Volume

_CHANNEL = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")


def case_id(path: Path) -> str:
    """The case id: a file's name without its ending, or the name of a DICOM series' folder."""
    if path.is_dir():
        return path.resolve().name
    ending = suffix(path)
    return path.name[: -len(ending)] if ending else path.stem


def find_scans(path: Path) -> dict[str, Path]:
    """All scans at `path`, by case id, sorted.

    `path` is a scan file, a folder with the files of one DICOM series, or a folder of scan files and of such folders.
    Hidden files are passed over.

    Raises:
        ScanError: nothing there, or nothing that is a scan.
        PairingError: two scans have one case id.
    """
    if not path.exists():
        raise ScanError(f"{path} is not there", "check the path")
    if path.is_file():
        if suffix(path) is None and not is_dicom(path):
            raise ScanError(f"{path} is of no known format", f"give {', '.join(SUFFIXES)}, or a DICOM folder")
        return {case_id(path): path}
    visible = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    files = [entry for entry in visible if entry.is_file() and suffix(entry) is not None]
    series = [entry for entry in visible if entry.is_dir() and dicom_files(entry)]
    if not files and not series and dicom_files(path):
        return {case_id(path): path}
    scans: dict[str, Path] = {}
    for entry in files + series:
        case = case_id(entry)
        if case in scans:
            raise PairingError(
                f"{scans[case]} and {entry.name} have the same case id {case!r}", "rename or remove one of them"
            )
        scans[case] = entry
    if not scans:
        held = ", ".join(entry.name for entry in visible[:5])
        raise ScanError(
            f"{path} holds no scans"
            + (f", only {held}{' …' if len(visible) > 5 else ''}" if held else ": it is empty"),
            f"give a folder with {', '.join(SUFFIXES)} files or DICOM series",
        )
    return dict(sorted(scans.items()))


def find_dataset(images: Path, labels: Path | None) -> tuple[dict[str, Path], dict[str, Path]]:
    """Images and masks by case id.

    Understands the nnU-Net raw layout: `images` is then the folder that holds imagesTr and labelsTr, or imagesTr
    itself; `_0000` is stripped from the images' names.

    Raises:
        ScanError: as `find_scans`.
        PairingError: a mask without an image, no image with a mask, or scans of several channels.
    """
    if (images / "imagesTr").is_dir():
        if labels is not None and (labels / "labelsTr").is_dir():
            labels = labels / "labelsTr"
        images = images / "imagesTr"
    scans = _one_channel(find_scans(images))
    if labels is None:
        return scans, {}
    masks = find_scans(labels)
    matched = {case: mask for case, mask in masks.items() if case in scans}
    if not matched:
        raise PairingError(
            f"no mask in {labels} has the case id of an image in {images}: "
            f"images are {_some(scans)}, masks {_some(masks)}",
            "give masks the names of their images",
        )
    if unmatched := sorted(set(masks) - set(scans)):
        raise PairingError(
            f"{labels} holds masks without an image: {_some(dict.fromkeys(unmatched))}",
            "add the images, or remove or rename the masks",
        )
    return scans, matched


def _one_channel(scans: dict[str, Path]) -> dict[str, Path]:
    """Strip nnU-Net's channel number where every scan carries one."""
    matches = {case: _CHANNEL.fullmatch(case) for case in scans}
    if not any(match and match["channel"] == "0000" for match in matches.values()) or not all(matches.values()):
        return scans
    stripped: dict[str, Path] = {}
    for case, match in matches.items():
        assert match is not None
        if match["channel"] != "0000":
            raise PairingError(
                f"{scans[case].name} is a further channel of {match['case']!r}, one channel a scan is supported",
                "give a folder with the _0000 files only",
            )
        stripped[match["case"]] = scans[case]
    return stripped


def _some(cases: dict[str, Path] | dict[str, None], most: int = 3) -> str:
    names = list(cases)
    return ", ".join(names[:most]) + (f" … ({len(names)} in all)" if len(names) > most else "")


def check_same_grid(image: Volume, labels: Volume, case: str) -> None:
    """Raise `PairingError` unless a scan and its mask lie on the same grid."""
    if not image.same_grid(labels):
        raise PairingError(
            f"{case}: image and mask lie on different grids: {image.describe_grid()} and {labels.describe_grid()}",
            "resample the mask to its image, or give the mask that was drawn on this image",
        )
