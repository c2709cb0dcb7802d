"""Find the scans of a folder, and the labels that belong to them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from frugalseg.errors import PairingError, ScanError
from frugalseg.imaging.folders import list_contents
from frugalseg.imaging.formats import (
    ACCEPTED_FORMATS,
    case_id,
    is_dicom_file,
    is_dicom_folder,
    list_visible,
    scan_suffix,
)
from frugalseg.imaging.validation import ScanWarning, scan_error, unknown_format
from frugalseg.text import name_some

__all__ = ["case_id", "check_distinct_files", "find_dataset", "find_masks", "find_scans"]

_CHANNEL = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")


def find_scans(path: Path) -> dict[str, Path]:
    """The scans at `path`: case id → file or DICOM folder, sorted by id. No scan is opened.

    `path` may be one scan file, one DICOM file, a folder of DICOM files, or a folder that holds scan files and
    sub-folders. Of a sub-folder the DICOM series are read, however deep they lie: the only one has the name of the
    sub-folder, several have the names on their way, joined by `_`. Hidden entries and documents are passed over.

    Raises:
        ScanError: the path does not exist, holds no scan, or holds loose DICOM files beside other scans.
        PairingError: two scans have the same case id.

    Warns:
        ScanWarning: entries that are neither read nor documents, by name.
    """
    if not path.exists():
        raise scan_error(path, "does not exist", "check the path")
    if path.is_file():
        if scan_suffix(path) is None and not is_dicom_file(path):
            raise unknown_format(path)
        return {case_id(path): path}
    entries = list_visible(path)
    below = list_contents(path, entries)
    if is_dicom_folder(path):
        _warn_of_unread(path, below.unread)
        if below.scans:
            raise ScanError(
                f"{path} holds loose DICOM files beside other scans ({name_some(s.name for _, s in below.scans)})",
                "put the DICOM files of each scan into a sub-folder of their own",
            )
        return {case_id(path): path}
    if not below.scans:
        raise _no_scans_error(path, entries)
    _warn_of_unread(path, below.unread)
    return _index_by_case(below.scans)


def find_masks(path: Path) -> dict[str, Path]:
    """The masks at `path`: anything `find_scans` takes, or an nnU-Net raw data set, whose `labelsTr` are meant."""
    return find_scans(path / "labelsTr" if (path / "labelsTr").is_dir() else path)


def find_dataset(images: Path, labels: Path | None) -> tuple[dict[str, Path], dict[str, Path]]:
    """The scans of a data set and the labels that belong to them, paired by case id, never by order.

    `images` may be anything `find_scans` takes, or an nnU-Net raw data set (a folder with `imagesTr`), or its
    `imagesTr` or `imagesTs` alone; the channel `_0000` is then no part of the id. The `labelsTr` of a raw data set are
    taken where `labels` is None. Grids are not compared: that needs reading.

    Returns:
        Case id → image, and case id → label; every label has an image, not every image a label. Both sorted by id.

    Raises:
        ScanError: a path does not exist or holds no scan.
        PairingError: double ids, labels without image, no label that fits any image, several channels, or a file that
            is image and label at once.
    """
    if (images / "imagesTr").is_dir():
        if labels is None and (images / "labelsTr").is_dir():
            labels = images / "labelsTr"
        images = images / "imagesTr"
    scans = find_scans(images)
    if re.fullmatch("images(Tr|Ts|Val)", images.absolute().name):
        scans = _strip_channel(scans)
    if labels is None:
        return scans, {}
    masks = find_masks(labels)
    _require_pairs(scans, masks, images, labels)
    check_distinct_files(scans, masks)
    return scans, masks


def check_distinct_files(first: Mapping[str, Path], second: Mapping[str, Path], what: str = "image and label") -> None:
    """Raise `PairingError` where a case has the same file in both: then one folder was given twice."""
    one = [case for case, path in second.items() if case in first and path.resolve() == first[case].resolve()]
    if one:
        more = f", and so of {len(one) - 1} more" if len(one) > 1 else ""
        raise PairingError(
            f"{one[0]}: {what} are one file, {second[one[0]]}{more}", "give each of the two from a folder of its own"
        )


def _warn_of_unread(folder: Path, unread: Sequence[Path]) -> None:
    if unread:
        names = [f"{entry.relative_to(folder)}{'/' * entry.is_dir()}" for entry in unread]
        warnings.warn(
            f"{folder}: not read: {name_some(names)}. Scans are {ACCEPTED_FORMATS}", ScanWarning, stacklevel=3
        )


def _index_by_case(scans: Iterable[tuple[str, Path]]) -> dict[str, Path]:
    """Case id → scan, sorted; raises `PairingError` for double ids."""
    found: dict[str, Path] = {}
    for case, path in scans:
        if case in found:
            other = path.name if path.parent == found[case].parent else path
            raise PairingError(
                f"{found[case]} and {other} have the same case id {case!r}",
                "rename one or move it elsewhere: every scan needs an id of its own",
            )
        found[case] = path
    return dict(sorted(found.items()))


def _no_scans_error(folder: Path, entries: list[Path]) -> ScanError:
    there = f"it holds {name_some(e.name + '/' * e.is_dir() for e in entries)}" if entries else "it is empty"
    return ScanError(
        f"{folder} holds no scans ({there})",
        f"give a folder that directly holds scans: {ACCEPTED_FORMATS}",
    )


def _strip_channel(scans: Mapping[str, Path]) -> dict[str, Path]:
    """Case ids of nnU-Net's image folder; ids such as `amos_0004`, where no name ends in `_0000`, stay as they are."""
    parts = {case: _CHANNEL.fullmatch(case) for case in scans}
    first = {match["case"] for match in parts.values() if match and match["channel"] == "0000"}
    more = [case for case, match in parts.items() if match and match["channel"] != "0000" and match["case"] in first]
    if more:
        raise PairingError(
            f"{scans[more[0]]} is a second channel of its case ({len(more)} such files); one channel is supported",
            "keep one channel per case (the files that end in _0000) in a folder of their own",
        )
    return _index_by_case(
        (match["case"] if (match := parts[case]) and match["channel"] == "0000" else case, path)
        for case, path in scans.items()
    )


def _require_pairs(scans: Mapping[str, Path], masks: Mapping[str, Path], images: Path, labels: Path) -> None:
    lost = [case for case in masks if case not in scans]
    if not lost:
        return
    if len(lost) == len(masks):
        channel = any(f"{case}_0000" in scans for case in lost)
        raise PairingError(
            f"no label in {labels} has the case id of an image in {images}: labels {name_some(masks)}; "
            f"images {name_some(scans)}",
            "the images carry nnU-Net's channel number: name their folder imagesTr"
            if channel
            else "give image and label of a case the same name (the suffix may differ)",
        )
    raise PairingError(
        f"{labels} holds {len(lost)} labels without an image in {images}: {name_some(lost)}",
        "add the images, or take these labels out",
    )
