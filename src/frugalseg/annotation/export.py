"""Masks for other programs: NIfTI, nnU-Net raw, DICOM SEG."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from frugalseg.annotation.labels import Label
from frugalseg.annotation.problems import RequestProblem
from frugalseg.annotation.session import Session
from frugalseg.annotation.slices import LABELLED
from frugalseg.engine.files import write_json
from frugalseg.errors import disk_errors
from frugalseg.imaging.formats import is_dicom_folder
from frugalseg.imaging.write import write_mask

_MARKER = ".frugalseg-export"
"""A file in each folder of an export: a later one replaces only such folders."""


def export_masks(session: Session, form: str) -> tuple[Path, int]:
    """Write the masks of all scans that have one; returns the folder and the number of masks.

    Raises:
        RequestProblem: there are none, a library is missing, or the folder holds other files.
        DiskError: the folder cannot be written.
    """
    folder = session.place.exports / form
    cases = [s.id for s in session.cases.summaries(session.scans.paths) if s.state not in ("new", "unreadable")]
    if not cases:
        raise RequestProblem(422, "no scan has a mask yet", "outline a slice first")
    if folder.is_dir() and not (folder / _MARKER).is_file() and any(folder.iterdir()):
        raise RequestProblem(422, f"{folder} holds files that are no export", "move them elsewhere")
    with disk_errors(folder):
        if folder.is_dir():  # an earlier export
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        (folder / _MARKER).touch()
    return folder, FORMATS[form](session, cases, folder)


def _export_nifti(session: Session, cases: list[str], folder: Path) -> int:
    for case in cases:
        _write_case(session, case, folder / f"{case}.nii.gz")
    write_json(folder / "labels.json", {label.name: label.value for label in session.labels.all()})
    return len(cases)


def _export_nnunet(session: Session, cases: list[str], folder: Path) -> int:
    """imagesTr, labelsTr and dataset.json; only scans of which every slice is outlined or reviewed are for training."""
    labels = LabelNumbers.of(session.labels.all())
    written = 0
    for case in cases:
        display = session.open(case)
        states = session.slices.of_case(case, display.shape[2])
        if not all(state.source in LABELLED for state in states):
            continue
        planes = ((z, labels.table[mask]) for z, mask in session.slices.masks(case, display.pixels))
        write_mask(display.mask_volume(planes), folder / "labelsTr" / f"{case}.nii.gz")
        _write_image(session, case, folder / "imagesTr" / f"{case}_0000.nii.gz")
        written += 1
    if not written:
        raise RequestProblem(
            422,
            "no scan is finished: nnU-Net takes every slice without a mask for background",
            "accept the masks of whole scans first",
        )
    modality = "CT" if display.kind == "ct" else "MR"
    write_json(
        folder / "dataset.json",
        {
            "channel_names": {"0": modality},
            "labels": {"background": 0, **labels.names},
            "numTraining": written,
            "file_ending": ".nii.gz",
        },
    )
    return written


def _export_dicom_seg(session: Session, cases: list[str], folder: Path) -> int:
    """One DICOM SEG object for each scan that was read from DICOM files."""
    from frugalseg.annotation.dicom_seg import write_dicom_seg

    series = [case for case in cases if is_dicom_folder(session.scans.path(case))]
    if not series:
        raise RequestProblem(422, "no scan with a mask is a DICOM series", "export NIfTI instead")
    for case in series:
        write_dicom_seg(session, case, folder / f"{case}.dcm")
    return len(series)


FORMATS: Mapping[str, Callable[[Session, list[str], Path], int]] = {
    "nifti": _export_nifti,
    "nnunet": _export_nnunet,
    "dicom-seg": _export_dicom_seg,
}
"""Format → function that writes it."""


@dataclass(frozen=True)
class LabelNumbers:
    """Labels numbered 1, 2, … without gaps, which nnU-Net requires.

    Attributes:
        names: name → number.
        table: (256,) label value → number.
    """

    names: dict[str, int]
    table: npt.NDArray[np.uint8]

    @classmethod
    def of(cls, labels: list[Label]) -> LabelNumbers:
        """The numbers of these labels, in their order."""
        table = np.zeros(256, np.uint8)
        for number, label in enumerate(labels, start=1):
            table[label.value] = number
        return cls({label.name: number for number, label in enumerate(labels, start=1)}, table)


def _write_case(session: Session, case: str, path: Path) -> None:
    display = session.open(case)
    write_mask(display.mask_volume(session.slices.masks(case, display.pixels)), path)


def _write_image(session: Session, case: str, path: Path) -> None:
    """The scan itself: copied where it is a .nii.gz, otherwise converted."""
    source = session.scans.path(case)
    path.parent.mkdir(parents=True, exist_ok=True)
    if source.name.endswith(".nii.gz"):
        shutil.copyfile(source, path)
        return
    import nibabel as nib

    from frugalseg.imaging.nifti import to_nifti_image

    nib.save(to_nifti_image(session.open(case).volume), path)
