"""How the model behind the predictions used each scan, and which scans may be averaged together.

The roles stand in predictions.json, which `frugalseg predict` writes next to the masks. A mean over scans that the
model was trained on says nothing about new patients, so they never enter the headline.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from frugalseg.errors import PairingError
from frugalseg.records.predictions import PREDICTIONS_FILE, PredictionRecord, resolve_recorded

ROLES = {
    "test": "test patients of the model's data set, held out",
    "new": "not in the model's data set",
    "pretrain": "image or image-level labels used, in pre-training or as an unlabelled scan; mask not used",
    "unused": "of training patients, but not used by the model",
    "validation": "used to select the model",
    "train": "mask used for training",
}
"""Role of a scan → what it means."""

ALL, UNSEEN, MASKS_NOT_USED = "all", "unseen", "masks_not_used"

MEMBERS: dict[str, tuple[str, ...]] = {
    # Without "unused": with pre-training the same scans are "pretrain", and the headlines of a model from scratch
    # and of a pre-trained one must be means over the same scans.
    UNSEEN: ("test", "new"),
    MASKS_NOT_USED: ("test", "new", "pretrain", "unused"),
    **{role: (role,) for role in ROLES},
}
"""Group → its roles, in the order of reports."""

GROUP_MEANINGS = {
    ALL: "all scans; which of them the model was trained on is not known",
    UNSEEN: "scans the model has never seen (roles test and new)",
    MASKS_NOT_USED: "scans whose masks were not used (roles test, new, pretrain and unused)",
    **ROLES,
}
"""Group → what it means."""


def read_predictions(predictions: Path) -> PredictionRecord | None:
    """The predictions.json beside the masks with its paths resolved, or None where there is none.

    Args:
        predictions: the folder of masks, or one mask.

    Raises:
        PairingError: the record is damaged or names an unknown role.
    """
    record = PredictionRecord.read_beside(predictions)
    if record is None:
        return None
    folder = predictions if predictions.is_dir() else predictions.parent
    if unknown := sorted(set((record.roles or {}).values()) - set(ROLES)):
        raise PairingError(
            f"{folder / PREDICTIONS_FILE} gives a scan the role {unknown[0]!r}, expected one of {', '.join(ROLES)}",
            "predict again with this version of frugalseg",
        )
    return replace(
        record,
        model=str(resolve_recorded(record.model, folder)) if record.model else None,
        images={case: str(resolve_recorded(image, folder)) for case, image in record.images.items()},
    )


def find_roles(cases: Iterable[str], record: PredictionRecord | None) -> dict[str, str]:
    """Case id → role, or `ALL` for every case where no roles are recorded.

    Raises:
        PairingError: the record lists roles, but not that of every case.
    """
    if record is None or record.roles is None:
        return dict.fromkeys(cases, ALL)
    roles = {case: record.roles.get(case) for case in cases}
    if unlisted := [case for case, role in roles.items() if role is None]:
        raise PairingError(
            f"{PREDICTIONS_FILE} does not list {', '.join(unlisted[:5])}{', …' * (len(unlisted) > 5)}: "
            "whether the model was trained on them is unknown",
            "keep masks from other sources in a separate folder",
        )
    return {case: role for case, role in roles.items() if role is not None}


def group_cases(roles: Mapping[str, str]) -> dict[str, list[str]]:
    """Group → its cases, without empty groups."""
    if ALL in roles.values():
        return {ALL: list(roles)}
    groups = {name: [case for case, role in roles.items() if role in members] for name, members in MEMBERS.items()}
    return {name: cases for name, cases in groups.items() if cases}


def choose_main_group(groups: Collection[str]) -> str:
    """The group that reports show first: the headline's, or where there is none, that of the least used scans."""
    return choose_headline(groups) or next(iter(groups))


def choose_headline(groups: Iterable[str]) -> str | None:
    """The group whose mean is the headline; None where no scan is unseen by the model."""
    return next((name for name in groups if name in (ALL, UNSEEN)), None)
