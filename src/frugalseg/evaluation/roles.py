"""What the model behind the predictions knew of each scan, and which scans may be averaged together.

`frugalseg predict` writes predictions.json beside the masks; it is read here. A mean over scans that the model was
trained on says nothing about new patients, so those never enter the headline.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from frugalseg.errors import PairingError
from frugalseg.masks.folder import NOTE, NOTED

ROLES = {
    "test": "held out; never touched",
    "new": "not in the model's data set",
    "pretrain": "image or image-level labels used, in pre-training or as an unlabelled scan; mask not used",
    "unused": "a training patient's that the model never saw",
    "validation": "used to choose the model",
    "train": "mask trained on",
}
"""Role of a scan → what it means."""

ALL, UNSEEN, MASKS_NOT_USED = "all", "unseen", "masks_not_used"

MEMBERS: dict[str, tuple[str, ...]] = {
    # "unused" stays out: with pre-training the same scans are "pretrain", and the headlines of a model from scratch
    # and a pre-trained one must be means over the same scans.
    UNSEEN: ("test", "new"),
    MASKS_NOT_USED: ("test", "new", "pretrain", "unused"),
    **{role: (role,) for role in ROLES},
}
"""Group → the roles it gathers, in the order of reports."""

GROUPS = {
    ALL: "all scans; it is not known what the model was trained on",
    UNSEEN: "scans the model has never seen (roles test and new)",
    MASKS_NOT_USED: "scans whose masks were not used (roles test, new, pretrain and unused)",
    **ROLES,
}
"""Group → what it means."""


@dataclass(frozen=True)
class PredictionNote:
    """predictions.json.

    Attributes:
        model: the run folder of the model, or None.
        images: case id → the scan that was segmented.
        roles: case id → role (see `ROLES`); None where nothing is known of what the model saw.
        failed: case id → why it could not be segmented.
        targets: organ → label values the masks were written with.
        settings: how the masks were made.
        annotated: case id → slices that a person had annotated and that were copied, which say nothing of the method.
    """

    model: Path | None = None
    images: Mapping[str, Path] = field(default_factory=dict)
    roles: Mapping[str, str] | None = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    targets: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    annotated: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


def read_note(predictions: Path) -> PredictionNote | None:
    """The note beside the masks, or None where there is none.

    Args:
        predictions: the folder of masks, or one mask.

    Raises:
        PairingError: the note is damaged or names an unknown role.
    """
    folder = predictions if predictions.is_dir() else predictions.parent
    path = folder / NOTE
    if not path.is_file():
        return None
    try:
        content = NOTED.read(path)
        note = PredictionNote(
            model=_locate(content["model"], folder) if content.get("model") else None,
            images={case: _locate(image, folder) for case, image in content.get("images", {}).items()},
            roles=_roles(content["roles"]),
            failed={str(case): str(why) for case, why in content.get("failed", {}).items()},
            targets={name: tuple(int(v) for v in values) for name, values in content.get("targets", {}).items()},
            settings=dict(content.get("settings", {})),
            annotated={case: tuple(int(z) for z in slices) for case, slices in content.get("annotated", {}).items()},
        )
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise PairingError(
            f"{path} is damaged ({type(error).__name__}: {error})",
            "predict again, or delete it: all scans then count as one group",
        ) from error
    if unknown := sorted(set((note.roles or {}).values()) - set(ROLES)):
        raise PairingError(
            f"{path} gives a scan the role {unknown[0]!r}, expected one of {', '.join(ROLES)}",
            "predict again with this version of frugalseg",
        )
    return note


def _roles(told: Mapping[str, str] | None) -> dict[str, str] | None:
    return None if told is None else {str(case): str(role) for case, role in told.items()}


def _locate(text: str, folder: Path) -> Path:
    """A path of the note; a relative one is sought from here, then from the note's folder."""
    path = Path(text)
    return path if path.exists() or path.is_absolute() else folder / path


def roles_of(cases: Iterable[str], note: PredictionNote | None) -> dict[str, str]:
    """Case id → role, or `ALL` for every case where nothing is known.

    Raises:
        PairingError: a note is there but does not tell the role of a case.
    """
    if note is None or note.roles is None:
        return dict.fromkeys(cases, ALL)
    roles = {case: note.roles.get(case) for case in cases}
    if untold := [case for case, role in roles.items() if role is None]:
        raise PairingError(
            f"{NOTE} does not list {', '.join(untold[:5])}{', …' * (len(untold) > 5)}: "
            "whether the model was trained on them is unknown",
            "keep masks from other sources in a folder of their own",
        )
    return {case: role for case, role in roles.items() if role is not None}


def group_cases(roles: Mapping[str, str]) -> dict[str, list[str]]:
    """Group → its cases, groups without any left out; the first is the headline where it is `ALL` or `UNSEEN`."""
    if ALL in roles.values():
        return {ALL: list(roles)}
    groups = {name: [case for case, role in roles.items() if role in members] for name, members in MEMBERS.items()}
    return {name: cases for name, cases in groups.items() if cases}


def headline_group(groups: Iterable[str]) -> str | None:
    """The group whose mean is the headline; None where every scan was seen before."""
    return next((name for name in groups if name in (ALL, UNSEEN)), None)
