"""Scans and masks in folders as BIDS names them: sub-01/[ses-1/]anat/sub-01_ses-1_T1w.nii.gz."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from frugalseg.imaging.formats import NIFTI, case_id, list_visible, scan_suffix

_SUBJECT = re.compile(r"sub-[A-Za-z0-9]+")
_MASKS = ("dseg", "mask", "seg")
"""Suffixes of masks, which their scan does not have."""
_OF_MASKS = ("desc", "label", "space", "res", "den")
"""Entities that a mask may have in addition to those of its scan."""


def find_bids_scans(folder: Path) -> list[tuple[str, Path]]:
    """Case id and file of the NIfTI files in the sub-folders `sub-…` of a BIDS data set or of one of its derivatives.

    The case id is the file's name without its suffix (`T1w`, `ct`, `dseg`) and without the entities that only masks
    have: `sub-01_ses-1`. Where this names several images, as T1w and T2w of one session, the suffix is kept.

    Returns:
        Empty where there is none. An id occurs twice if two files cannot be told apart.
    """
    files = [file for file in _list_files(folder) if scan_suffix(file) in NIFTI]
    keys = [_split_name(file) for file in files]
    counts = Counter(key for key, suffix in set(keys))
    return [
        (key if counts[key] == 1 or suffix in _MASKS else f"{key}_{suffix}", file)
        for (key, suffix), file in zip(keys, files, strict=True)
    ]


def _list_files(folder: Path) -> Iterator[Path]:
    """The files below `sub-…` whose names begin with that of the subject."""
    for subject in list_visible(folder):
        if subject.is_dir() and _SUBJECT.fullmatch(subject.name):
            yield from (file for file in sorted(subject.rglob(f"{subject.name}_*")) if file.is_file())


def _split_name(file: Path) -> tuple[str, str]:
    """The entities that scan and mask share, and the suffix: `sub-01_desc-liver_mask` → `sub-01`, `mask`."""
    *entities, suffix = case_id(file).split("_")
    return "_".join(one for one in entities if one.split("-")[0] not in _OF_MASKS), suffix
