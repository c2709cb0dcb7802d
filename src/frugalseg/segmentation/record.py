"""The scans in a model's record and their roles, and the check that an encoder has not seen held-out scans."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING

from frugalseg.errors import OptionError, SplitError
from frugalseg.records.model import ScanRole
from frugalseg.records.networks import EncoderRecord
from frugalseg.records.split import Split

if TYPE_CHECKING:
    from frugalseg.dataset.store import SliceStore  # prediction needs neither the store nor pandas


def check_encoder(encoder: EncoderRecord | None, store: SliceStore, split: Split, transductive: bool) -> None:
    """Refuse an encoder that was trained on validation or test scans, or that expects other intensities.

    Raises:
        SplitError: leakage, by the scans' fingerprints, unless `transductive`. Image-level labels come from masks: an
            encoder that used those of held-out scans is always refused.
        OptionError: the encoder was trained on slices with another intensity scaling.
    """
    if encoder is None:
        return
    held_out = {*split.validation, *split.test}
    leaked = store.fingerprints_of_patients(held_out) & set(encoder.fingerprints)
    uses_labels = encoder.annotation.organ_present_labels
    if leaked and (uses_labels or not transductive):
        names = sorted(scan.case for scan in store.record.scans if scan.fingerprint in leaked)
        raise SplitError(
            f"the encoder was pre-trained on scans that are held out here: {', '.join(names[:5])}",
            "pre-train and fine-tune with the same split"
            + (
                ", since the encoder was trained on image-level labels of theirs"
                if uses_labels
                else ", or --transductive"
            ),
        )
    if encoder.preprocessing.intensity != store.intensity:
        raise OptionError(
            f"the encoder expects intensities scaled by {asdict(encoder.preprocessing.intensity)}, "
            f"the store has {asdict(store.intensity)}",
            "prepare the store with the same window",
        )


def scan_roles(store: SliceStore, split: Split, trained_on: set[str], pretrained_on: set[str]) -> tuple[ScanRole, ...]:
    """How the model used each scan of its store: case, fingerprint and role.

    train: its mask was trained on. validation: used to choose the model. pretrain: used without its mask, by the
    encoder or as an unlabelled scan; may be held out with `--transductive`. unused: of a training patient, but not
    used. test: held out and not used.

    Args:
        store, split: the data.
        trained_on: cases whose masks were trained on.
        pretrained_on: fingerprints of the scans that were used without their masks.
    """
    part_of = split.part_by_patient()
    trained = store.fingerprints_of_cases(trained_on)
    scans = []
    for scan in store.record.scans:
        role = part_of.get(scan.patient, "unused")
        if role == "train" and scan.fingerprint not in trained:
            role = "unused"
        if role in ("unused", "test") and scan.fingerprint in pretrained_on:
            role = "pretrain"
        scans.append(ScanRole(scan.case, scan.fingerprint, role))
    elsewhere = pretrained_on - {scan.fingerprint for scan in scans}
    return (*scans, *(ScanRole("", seen, "pretrain") for seen in sorted(elsewhere)))


def find_role(scans: Iterable[ScanRole], case: str, fingerprint: str) -> tuple[str, bool]:
    """How a model used a scan, or "new"; and whether that is known by its case id only, its voxels being others.

    Such a scan is taken for the one of that id, changed on the way: to call a training scan new would be the worse
    error.
    """
    known = tuple(scans)
    for scan in known:
        if scan.fingerprint == fingerprint:
            return scan.role, False
    return next(((scan.role, True) for scan in known if scan.case == case), ("new", False))
