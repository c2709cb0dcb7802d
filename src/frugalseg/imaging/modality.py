"""Detects whether a scan is CT in HU or something else, from its files or its values."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from frugalseg.imaging.formats import is_dicom_file
from frugalseg.imaging.intensity import FAT_HU, SAMPLE, looks_like_hu
from frugalseg.imaging.volume import Array, Volume

ModalityKind = Literal["ct", "mr"]
"""How a scan is scaled: "ct" by a window in HU; "mr" (all scans without a unit) by percentiles of the scan."""

MODALITY_NAMES: dict[str, str] = {"ct": "CT", "mr": "MR"}
"""Kind → its name in messages."""

TAG_KINDS: dict[str, ModalityKind] = {"CT": "ct", "MR": "mr", "PT": "mr", "NM": "mr"}
"""DICOM Modality → kind. For others (cone beam CT is XA or DX), the values decide."""

CHANNEL_KINDS: dict[str, ModalityKind] = {
    "ct": "ct",
    **dict.fromkeys(("mr", "mri", "t1", "t1w", "t1c", "t1ce", "t1gd", "t2", "t2w", "flair", "pd", "adc", "dwi"), "mr"),
    **dict.fromkeys(("dixon", "swi", "tof", "pet"), "mr"),
}
"""Words of nnU-Net channel names → kind. nnU-Net itself distinguishes only CT from all others."""

NEVER_HU = -1500.0
NEVER_SHARE = 0.05
NO_FAT_SHARE = 0.001

_CHANNEL_KEYS = ("channel_names", "modality")
_RAW_IMAGES = re.compile("images(Tr|Ts|Val)")


@dataclass(frozen=True)
class Finding:
    """The detected modality of a scan.

    Attributes:
        kind: how it is scaled, or None if undetermined.
        why: the evidence, for messages such as "CT: …".
    """

    kind: ModalityKind | None
    why: str


def find_modality(path: Path | None, volume: Volume) -> Finding:
    """The modality that the files of the scan at `path` declare, otherwise, or without files, that of its values."""
    declared = None if path is None else read_declared_modality(path)
    return declared or guess_modality(volume.array)


def read_declared_modality(path: Path) -> Finding | None:
    """The modality in DICOM's Modality tag or the dataset.json of an nnU-Net raw data set; None if not declared."""
    return _read_dicom_modality(path) or _read_dataset_json(path)


def guess_modality(array: Array) -> Finding:
    """The modality that the values look like.

    "ct" if `looks_like_hu` and at most 5% of the voxels are below −1500 (phase images have more); voxels with the
    lowest value are not counted, since it fills the area outside the field of view. "mr" if fewer than 0.1% are at or
    below −30. In between, or if all voxels are equal, undetermined.
    """
    low, high = float(array.min()), float(array.max())
    values = f"values from {low:g} to {high:g}"
    if low == high:
        return Finding(None, f"all its voxels are {low:g}")
    step = max(1, round((array.size / SAMPLE) ** (1 / 3)))
    sample = array[::step, ::step, ::step]
    if looks_like_hu(array):
        impossible = np.count_nonzero((sample < NEVER_HU) & (sample > low)) > NEVER_SHARE * sample.size
        return Finding("mr", f"{values} are not HU") if impossible else Finding("ct", f"{values} look like HU")
    if np.count_nonzero(sample <= FAT_HU) < NO_FAT_SHARE * sample.size:
        return Finding("mr", f"{values} do not look like HU")
    return Finding(None, f"{values} may be HU or not")


def _read_dicom_modality(path: Path) -> Finding | None:
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    first = next((file for file in files if is_dicom_file(file)), None)
    if first is None:
        return None
    from frugalseg.imaging.dicom_series import read_modality  # pydicom is slow to import

    tag = read_modality(first)
    return Finding(TAG_KINDS[tag], f"DICOM's Modality is {tag}") if tag in TAG_KINDS else None


def _read_dataset_json(path: Path) -> Finding | None:
    """The modality in dataset.json of a scan in the image folder of an nnU-Net raw data set."""
    folder = path.absolute().parent
    file = folder.parent / "dataset.json"
    if not _RAW_IMAGES.fullmatch(folder.name) or not file.is_file():
        return None
    name = _read_first_channel(file)
    kinds = {CHANNEL_KINDS[word] for word in re.split(r"[^a-z0-9]+", name.lower()) if word in CHANNEL_KINDS}
    return Finding(kinds.pop(), f"{file} says {name}") if len(kinds) == 1 else None


def _read_first_channel(file: Path) -> str:
    """The name of channel 0, or "" if the file does not state it in a known form."""
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):  # not part of the scans: if unreadable, it declares nothing
        return ""
    channels = next((content[key] for key in _CHANNEL_KEYS if isinstance(content, dict) and key in content), None)
    if isinstance(channels, list):
        channels = {str(i): name for i, name in enumerate(channels)}
    return str(channels.get("0", "")) if isinstance(channels, dict) else ""
