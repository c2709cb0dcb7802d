"""Whether a scan is CT in HU or something else, told by its files or by its values."""

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
"""How a scan is scaled: "ct" by a window in HU; "mr", and all whose values have no unit, by its own percentiles."""

MODALITY_NAMES: dict[str, str] = {"ct": "CT", "mr": "MR"}
"""ModalityKind → for messages."""

TAG_KINDS: dict[str, ModalityKind] = {"CT": "ct", "MR": "mr", "PT": "mr", "NM": "mr"}
"""DICOM's Modality → how it is scaled. Of others (cone beam CT is XA or DX), the values tell."""

CHANNEL_KINDS: dict[str, ModalityKind] = {
    "ct": "ct",
    **dict.fromkeys(("mr", "mri", "t1", "t1w", "t1c", "t1ce", "t1gd", "t2", "t2w", "flair", "pd", "adc", "dwi"), "mr"),
    **dict.fromkeys(("dixon", "swi", "tof", "pet"), "mr"),
}
"""Words of nnU-Net's channel names → how they are scaled. nnU-Net itself asks only whether a name is CT."""

NEVER_HU = -1500.0
NEVER_SHARE = 0.05
NO_FAT_SHARE = 0.001

_CHANNEL_KEYS = ("channel_names", "modality")
_RAW_IMAGES = re.compile("images(Tr|Ts|Val)")


@dataclass(frozen=True)
class Finding:
    """What a scan was found to be.

    Attributes:
        kind: how it is scaled, or None where nothing tells.
        why: what tells, as the end of "CT: …".
    """

    kind: ModalityKind | None
    why: str


def find_modality(path: Path, volume: Volume) -> Finding:
    """What the files say of the scan at `path`, or else its values."""
    return read_declared_modality(path) or guess_modality(volume.array)


def read_declared_modality(path: Path) -> Finding | None:
    """What DICOM's Modality, or the dataset.json of an nnU-Net raw data set, says of a scan; None for nothing."""
    return _read_dicom_modality(path) or _read_dataset_json(path)


def guess_modality(array: Array) -> Finding:
    """What the values look like.

    "ct" where `looks_like_hu`, and at most 5% lie below −1500, the lowest value apart (it fills what the scanner did
    not see): phase images reach far below. "mr" where fewer than 0.1% lie at or below −30. Between, or where all
    voxels are alike, nothing can be told.
    """
    low, high = float(array.min()), float(array.max())
    values = f"values from {low:g} to {high:g}"
    if low == high:
        return Finding(None, f"all its voxels are {low:g}")
    step = max(1, round((array.size / SAMPLE) ** (1 / 3)))
    some = array[::step, ::step, ::step]
    if looks_like_hu(array):
        impossible = np.count_nonzero((some < NEVER_HU) & (some > low)) > NEVER_SHARE * some.size
        return Finding("mr", f"{values} are no HU") if impossible else Finding("ct", f"{values} look like HU")
    if np.count_nonzero(some <= FAT_HU) < NO_FAT_SHARE * some.size:
        return Finding("mr", f"{values} do not look like HU")
    return Finding(None, f"{values} may be HU or not")


def _read_dicom_modality(path: Path) -> Finding | None:
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    first = next((file for file in files if is_dicom_file(file)), None)
    if first is None:
        return None
    from frugalseg.imaging.dicom_series import read_modality  # pydicom is slow to import

    told = read_modality(first)
    return Finding(TAG_KINDS[told], f"DICOM's Modality is {told}") if told in TAG_KINDS else None


def _read_dataset_json(path: Path) -> Finding | None:
    """What dataset.json says, of a scan in the image folder of a raw data set."""
    folder = path.absolute().parent
    told = folder.parent / "dataset.json"
    if not _RAW_IMAGES.fullmatch(folder.name) or not told.is_file():
        return None
    name = _read_first_channel(told)
    kinds = {CHANNEL_KINDS[word] for word in re.split(r"[^a-z0-9]+", name.lower()) if word in CHANNEL_KINDS}
    return Finding(kinds.pop(), f"{told} says {name}") if len(kinds) == 1 else None


def _read_first_channel(file: Path) -> str:
    """The name of channel 0, or "" where the file does not say it in a way that we know."""
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):  # no part of the scans: what cannot be read tells nothing
        return ""
    channels = next((content[key] for key in _CHANNEL_KEYS if isinstance(content, dict) and key in content), None)
    if isinstance(channels, list):
        channels = {str(i): name for i, name in enumerate(channels)}
    return str(channels.get("0", "")) if isinstance(channels, dict) else ""
