"""Masks that exist already when a session begins: outlines of a person, or masks of a program to correct."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from frugalseg.annotation.database import ClosedDatabaseError
from frugalseg.annotation.labels import MOST_LABELS
from frugalseg.annotation.session import Session
from frugalseg.annotation.slices import Source, Stroke
from frugalseg.dataset.targets import parse_targets
from frugalseg.errors import FrugalsegError, OptionError, ScanError
from frugalseg.imaging.labels import read_labels_on
from frugalseg.phantoms.tissue import LABELS
from frugalseg.records.annotations import AnnotationsRecord
from frugalseg.records.predictions import PredictionRecord

FIRST_LABEL = "organ"
"""Name of the only label of a session that names none."""


def name_labels(session: Session) -> None:
    """Add the labels that --target, the given masks or an earlier session name, or one to begin with.

    Raises:
        OptionError: a target has several values, or one above 254.
        PairingError: a record beside the masks is damaged.
    """
    options = session.options
    names = {values[0]: name for name, values in parse_targets(options.target).items()}
    for name, values in parse_targets(options.target).items():
        if len(values) > 1 or values[0] > MOST_LABELS:
            raise OptionError(
                f"--target {name} has several values, or one above {MOST_LABELS}", f"give one of 1…{MOST_LABELS}"
            )
    for folder in (session.place.out, options.labels, options.masks):
        names = {**_names_beside(folder), **names}
    if options.demo:
        names = {**names, LABELS["liver"]: "liver"}
    given = options.labels is not None or options.masks is not None  # their values become labels as they are read
    if not names and not given and not session.labels.all():
        names = {1: FIRST_LABEL}
    session.labels.ensure(names)


def _names_beside(folder: Path | None) -> dict[int, str]:
    """Value → name, of the records beside masks."""
    if folder is None or not folder.is_dir():
        return {}
    annotated, predicted = AnnotationsRecord.read_beside(folder), PredictionRecord.read_beside(folder)
    names = _read_nnunet_names(folder) if annotated is None else {v: name for name, v in annotated.labels.items()}
    if predicted is not None:
        names |= {values[0]: name for name, values in predicted.targets.items() if values[0] <= MOST_LABELS}
    return names


def _read_nnunet_names(folder: Path) -> dict[int, str]:
    """Value → name, of the dataset.json of an nnU-Net raw data set; empty where there is none in a known form."""
    path = next((p / "dataset.json" for p in (folder, folder.parent) if (p / "dataset.json").is_file()), None)
    if path is None:
        return {}
    try:
        found = msgspec.convert(json.loads(path.read_text(encoding="utf-8")), NnUnetDataset)
    except (OSError, ValueError, msgspec.ValidationError):  # regions, or no file of nnU-Net: the values have no names
        return {}
    return {value: name for name, value in found.labels.items() if 0 < value <= MOST_LABELS}


@dataclass(frozen=True)
class NnUnetDataset:
    """What is read of nnU-Net's dataset.json: name → label value."""

    labels: dict[str, int]


class MaskImport:
    """Reads masks into the database, in a thread, for the cases that nobody has annotated yet.

    Args:
        session: whose cases they belong to.
        masks: case id → mask.
    """

    def __init__(self, session: Session, masks: Mapping[str, Path]) -> None:
        self._session, self._masks = session, masks
        folder = session.options.labels
        self._source: Source = "predicted" if folder is None else "outlined"
        self._record = AnnotationsRecord.read_beside(folder)

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self.run, name="import", daemon=True).start()

    def run(self) -> None:
        """Read all masks; one that does not fit its scan is noted in the list of cases."""
        with suppress(ClosedDatabaseError):  # the rest is read at the next start
            for case, path in self._masks.items():
                if not self._session.cases.is_annotated(case):
                    self._try_reading(case, path)
                    self._session.state_changed()

    def _try_reading(self, case: str, path: Path) -> None:
        try:
            self._read(case, path)
        except ClosedDatabaseError:
            raise
        except FrugalsegError as error:
            self._session.cases.noticed(case, error.problem.splitlines()[0])

    def _read(self, case: str, path: Path) -> None:
        session = self._session
        display = session.open(case)
        volume = read_labels_on(path, display.volume, case)
        values = [int(value) for value in np.unique(volume.array) if value]
        if values and not 0 < min(values) <= max(values) <= MOST_LABELS:
            raise ScanError(f"its mask holds label values up to {max(values)}, at most {MOST_LABELS} are supported", "")
        known = {label.value for label in session.labels.all()}
        session.labels.ensure({value: f"label {value}" for value in values if value not in known})
        stack = display.mask_slices(volume).astype(np.uint8)
        chosen = None if self._record is None else set(self._record.labelled_slices(case))
        strokes = (
            (z, Stroke(plane, "import", "import", session.annotator, 0.0, self._source))
            for z, plane in enumerate(stack)
            if chosen is None or z in chosen
        )
        changed = session.slices.fill(case, strokes, (None,))
        session.saver.drawn()
        session.masks_changed(case, changed)
