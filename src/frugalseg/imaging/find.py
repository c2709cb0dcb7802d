"""Find the scans in a folder and the labels that belong to them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from frugalseg.errors import PairingError, ScanError
from frugalseg.imaging.bids import find_bids_scans
from frugalseg.imaging.folders import is_scan, list_contents
from frugalseg.imaging.formats import (
    ACCEPTED_FORMATS,
    case_id,
    is_dicom_file,
    is_dicom_folder,
    list_visible,
    scan_suffix,
    zarr_suffix,
)
from frugalseg.imaging.labels import find_mask_object
from frugalseg.imaging.validation import ScanWarning, scan_error, unknown_format
from frugalseg.text import name_some

if TYPE_CHECKING:
    from frugalseg.imaging.series import FoundSeries

__all__ = ["case_id", "check_distinct_files", "find_dataset", "find_masks", "find_scans"]

_CHANNEL = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")


def find_scans(path: Path, rules: Sequence[str] = (), listed: Sequence[FoundSeries] = ()) -> dict[str, Path]:
    """The scans at `path`: case id → file or DICOM folder, sorted by id. No scan is opened.

    `path` may be one scan file, one DICOM file, a folder of DICOM files, an OME-Zarr folder, or a folder of scans and
    sub-folders. DICOM series are found at any depth of a sub-folder: a single series is named after the sub-folder,
    several after the folders of their path, joined by `_`. DICOM SEG and RTSTRUCT are no scans. Of a BIDS data set the
    NIfTI files of its subjects are found (see `bids`). Hidden entries and documents are ignored.

    Args:
        path: where to look.
        rules: of `--series`: one DICOM series of each sub-folder is its scan (see `series.choose_series`).
        listed: the series at `path`, where `series.list_series` has read them already.

    Raises:
        ScanError: the path does not exist, holds no scan, or holds DICOM files directly beside other scans; or the
            rules do not choose one series of each sub-folder.
        PairingError: two scans have the same case id.

    Warns:
        ScanWarning: names entries that are neither scans nor documents.
    """
    if rules:
        return _find_chosen(path, rules, listed)
    found = _find_files(path)
    masks = [case for case, own in found.items() if find_mask_object(own) is not None]
    if masks:
        _warn_of_unread(path, [found.pop(case) for case in masks])
    if not found:
        raise scan_error(path, "holds masks (DICOM SEG or RTSTRUCT) and no scan", "give the scans as --images")
    return found


def _find_chosen(path: Path, rules: Sequence[str], listed: Sequence[FoundSeries]) -> dict[str, Path]:
    """The series that the rules choose, and the scans of other formats beside their sub-folders."""
    from frugalseg.imaging.series import choose_series, list_series

    series = listed or list_series(path)
    if not series:
        raise scan_error(path, "has no sub-folder with DICOM series, which --series chooses", "leave --series out")
    chosen = [(one.case, one.folder) for one in choose_series(series, rules) if not one.reason]
    files = [(case_id(entry), entry) for entry in list_visible(path) if is_scan(entry)]
    return _index_by_case([*files, *chosen])


def _find_files(path: Path) -> dict[str, Path]:
    """Case id → scan or mask."""
    if not path.exists():
        raise scan_error(path, "does not exist", "check the path")
    if zarr_suffix(path) is not None:
        return {case_id(path): path}
    if path.is_file():
        if scan_suffix(path) is None and not is_dicom_file(path):
            raise unknown_format(path)
        return {case_id(path): path}
    if bids := find_bids_scans(path):
        return _index_by_case(bids)
    entries = list_visible(path)
    below = list_contents(path, entries)
    if is_dicom_folder(path):
        _warn_of_unread(path, below.unread)
        if below.scans:
            raise ScanError(
                f"{path} holds DICOM files directly beside other scans ({name_some(s.name for _, s in below.scans)})",
                "put the DICOM files of each scan into a separate sub-folder",
            )
        return {case_id(path): path}
    if not below.scans:
        raise _no_scans_error(path, entries)
    _warn_of_unread(path, below.unread)
    return _index_by_case(below.scans)


def find_masks(path: Path) -> dict[str, Path]:
    """The masks at `path`: as `find_scans`, or those in `labelsTr` of an nnU-Net raw data set.

    DICOM SEG and RTSTRUCT are masks of their own: `masks/p1.dcm` and `masks/p1/any name` are the mask of p1.

    Raises:
        PairingError: also where a segment's name has different label values in such masks.
    """
    path = path / "labelsTr" if (path / "labelsTr").is_dir() else path
    objects = _find_mask_objects(path)
    masks = _index_by_case(objects + _list_other_masks(path)) if objects else _find_files(path)
    _check_same_values(masks)
    return masks


def _find_mask_objects(folder: Path) -> list[tuple[str, Path]]:
    """Case id and file of the DICOM SEG and RTSTRUCT files directly in a folder."""
    if not is_dicom_folder(folder):
        return []
    from frugalseg.imaging.segments.kinds import find_mask_objects

    return [(case_id(file), file) for file in find_mask_objects(folder)]


def _list_other_masks(folder: Path) -> list[tuple[str, Path]]:
    """The masks of other formats beside DICOM SEG and RTSTRUCT files, and those in sub-folders."""
    return list_contents(folder, list_visible(folder)).scans


def _check_same_values(masks: Mapping[str, Path]) -> None:
    objects = {case: found for case, path in masks.items() if (found := find_mask_object(path)) is not None}
    if objects:
        from frugalseg.imaging.segments.kinds import check_same_values

        check_same_values(objects)


def find_dataset(
    images: Path, labels: Path | None, rules: Sequence[str] = (), listed: Sequence[FoundSeries] = ()
) -> tuple[dict[str, Path], dict[str, Path]]:
    """The scans of a data set and the labels that belong to them, paired by case id, never by order.

    `images` may be any path that `find_scans` accepts, an nnU-Net raw data set (a folder with `imagesTr`), or its
    `imagesTr` or `imagesTs` alone; the channel number `_0000` is then removed from the id. If `labels` is None, the
    `labelsTr` of a raw data set are used. Grids are not compared, since no file is opened. `rules` and
    `listed` are those of `find_scans`.

    Returns:
        Case id → image, and case id → label, both sorted by id. Every label has an image; images may lack a label.

    Raises:
        ScanError: a path does not exist or holds no scan.
        PairingError: duplicate ids, labels without an image, no label that matches any image, several channels, or a
            file that is both image and label.
    """
    if (images / "imagesTr").is_dir():
        if labels is None and (images / "labelsTr").is_dir():
            labels = images / "labelsTr"
        images = images / "imagesTr"
    scans = find_scans(images, rules, listed)
    if re.fullmatch("images(Tr|Ts|Val)", images.absolute().name):
        scans = _strip_channel(scans)
    if labels is None:
        return scans, {}
    masks = find_masks(labels)
    _require_pairs(scans, masks, images, labels)
    check_distinct_files(scans, masks)
    return scans, masks


def check_distinct_files(first: Mapping[str, Path], second: Mapping[str, Path], what: str = "image and label") -> None:
    """Raise `PairingError` if a case has the same file in both, as when one folder was given twice."""
    one = [case for case, path in second.items() if case in first and path.resolve() == first[case].resolve()]
    if one:
        more = f", and likewise for {len(one) - 1} more" if len(one) > 1 else ""
        raise PairingError(f"{one[0]}: {what} are the same file, {second[one[0]]}{more}", "give two different folders")


def _warn_of_unread(folder: Path, unread: Sequence[Path]) -> None:
    if unread:
        names = [
            f"{entry.name if entry == folder else entry.relative_to(folder)}{'/' * entry.is_dir()}" for entry in unread
        ]
        warnings.warn(
            f"{folder}: not read: {name_some(names)}. Scans are {ACCEPTED_FORMATS}", ScanWarning, stacklevel=3
        )


def _index_by_case(scans: Iterable[tuple[str, Path]]) -> dict[str, Path]:
    """Case id → scan, sorted; raises `PairingError` for duplicate ids."""
    found: dict[str, Path] = {}
    for case, path in scans:
        if case in found:
            other = path.name if path.parent == found[case].parent else path
            raise PairingError(
                f"{found[case]} and {other} have the same case id {case!r}",
                "rename or move one of them: every scan needs a unique id",
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
    """Case ids without nnU-Net's channel number; if no name ends in `_0000`, ids such as `amos_0004` are unchanged."""
    parts = {case: _CHANNEL.fullmatch(case) for case in scans}
    first = {match["case"] for match in parts.values() if match and match["channel"] == "0000"}
    more = [case for case, match in parts.items() if match and match["channel"] != "0000" and match["case"] in first]
    if more:
        raise PairingError(
            f"{scans[more[0]]} is a second channel of its case ({len(more)} such files); one channel is supported",
            "keep one channel per case (the files that end in _0000) in a separate folder",
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
            "the image names end in nnU-Net's channel number: name their folder imagesTr"
            if channel
            else "give image and label of a case the same name (the suffix may differ)",
        )
    raise PairingError(
        f"{labels} holds {len(lost)} labels without an image in {images}: {name_some(lost)}",
        "add the images, or remove these labels",
    )
