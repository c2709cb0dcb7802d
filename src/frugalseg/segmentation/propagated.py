"""Pseudo-labels propagated from outlined slices through their scans: a second source of labels beside a model's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from frugalseg.dataset.store import SliceStore
from frugalseg.engine.progress import say
from frugalseg.errors import OptionError, disk_errors
from frugalseg.records.model import PromptableModel
from frugalseg.segmentation.pseudo import UnlabelledSlices, make_disk_array
from frugalseg.text import pluralize

Planes = npt.NDArray[np.uint8]


class MaskPropagator(Protocol):
    """Propagates outlined slices through their scan."""

    def __call__(
        self, case: str, rows: npt.NDArray[np.int64], outlines: Mapping[int, Planes], folder: Path
    ) -> tuple[Planes, Planes, npt.NDArray[np.bool_]]:
        """Pseudo-labels of the slices `rows` of one scan, from bottom to top.

        Args:
            case: id of the scan.
            rows: (Z,) rows of the store.
            outlines: position in `rows` → (S, S) classes of an outlined slice; at least one shows an organ.
            folder: for intermediate results, so that an interrupted propagation continues exactly.

        Returns:
            (Z, S, S) classes, (Z, S, S) confidence, 0…255 for 0…1, and (C,) the organs that are unknown in this scan.
        """

    @property
    def record(self) -> PromptableModel:
        """The model that propagates them."""


def find_propagated(
    store: SliceStore, labelled: npt.NDArray[np.int64], unlabelled: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """The unlabelled slices of the scans in which some labelled slice shows an organ.

    Raises:
        OptionError: there is none.
    """
    drawn = store.slices.loc[labelled]
    scans = drawn.loc[drawn[store.presence_columns].any(axis=1), "case"].unique()
    rows = unlabelled[store.slices.loc[unlabelled, "case"].isin(scans).to_numpy()]
    if not len(rows):
        raise OptionError(
            "--propagate: the scans with an outlined slice have no other slices, so there is nothing to propagate to",
            "leave out --propagate, or give a smaller --budget",
        )
    return rows


def propagate_outlines(
    store: SliceStore,
    labelled: npt.NDArray[np.int64],
    rows: npt.NDArray[np.int64],
    propagator: MaskPropagator,
    folder: Path,
) -> UnlabelledSlices | None:
    """The pseudo-labels of `rows`, scan by scan; no masks are read but those of `labelled`.

    A scan of which the propagation reached no other slice has none, as a scan without an outline. None if that is so
    of all.

    Args:
        store: the slices.
        labelled: rows of the outlined slices, ascending.
        rows: those to propagate to, ascending, see `find_propagated`.
        propagator: propagates them.
        folder: for its intermediate results, and the pseudo-labels in temporary files.
    """
    shape = (len(rows), store.size, store.size)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    classes, confidence = make_disk_array(shape, folder), make_disk_array(shape, folder)
    unknown = np.ones((len(rows), len(store.targets)), bool)
    case = store.slices["case"].to_numpy(str)
    for scan in np.unique(case[rows]):
        own, given = rows[case[rows] == scan], labelled[case[labelled] == scan]
        whole = np.union1d(own, given)
        whole = whole[np.argsort(store.slices.loc[whole, "z"].to_numpy())]
        place = {row: z for z, row in enumerate(whole.tolist())}
        outlines = {place[row]: np.array(store.labels[row]) for row in given.tolist()}
        found, sure, missing = propagator(str(scan), whole, outlines, folder / str(scan))
        at, of = np.searchsorted(rows, own), [place[row] for row in own.tolist()]
        classes[at], confidence[at], unknown[at] = found[of], sure[of], missing
    labels = (torch.from_numpy(array) for array in (classes, confidence, unknown))
    return _drop_unreached(UnlabelledSlices(rows, *labels), store, labelled)


def _drop_unreached(
    labels: UnlabelledSlices, store: SliceStore, labelled: npt.NDArray[np.int64]
) -> UnlabelledSlices | None:
    """Without the slices of which every organ is unknown; None if none remains. Says what remains."""
    assert labels.classes is not None
    assert labels.confidence is not None
    assert labels.unknown is not None
    reached = ~labels.unknown.all(dim=1)
    if not reached.any():
        say("no outlined slice could be propagated: training uses the outlined slices alone")
        return None
    if not reached.all():
        kept = labels.rows[reached.numpy()]
        labels = UnlabelledSlices(kept, labels.classes[reached], labels.confidence[reached], labels.unknown[reached])
    _describe(labels, store, labelled)
    return labels


def _describe(labels: UnlabelledSlices, store: SliceStore, labelled: npt.NDArray[np.int64]) -> None:
    assert labels.confidence is not None
    scans = store.slices.loc[labels.rows, "case"].unique()
    outlined = int(store.slices.loc[labelled, "case"].isin(scans).sum())
    say(
        f"propagated {pluralize(outlined, 'outlined slice')} to {pluralize(len(labels.rows), 'slice')} of "
        f"{pluralize(len(scans), 'scan')}: mean confidence {labels.confidence.numpy().mean() / 255:.2f}"
    )


@torch.inference_mode()
def override(labels: UnlabelledSlices, propagated: UnlabelledSlices, folder: Path) -> UnlabelledSlices:
    """A model's pseudo-labels, or none, replaced by propagated ones where there are any.

    Of organs that are unknown in a propagated slice, the model's pseudo-labels remain. A pixel of both such an organ
    and a propagated one belongs to that of the higher confidence.

    Args:
        labels: of all unlabelled slices; changed in place.
        propagated: of some of them.
        folder: for the labels in temporary files, if there were none.
    """
    labels = labels if labels.classes is not None else _make_blank(labels.rows, propagated, folder)
    for here, there in enumerate(np.searchsorted(labels.rows, propagated.rows).tolist()):
        _override_slice(_PseudoSlice.of(labels, there), _PseudoSlice.of(propagated, here))
    return labels


def _make_blank(rows: npt.NDArray[np.int64], like: UnlabelledSlices, folder: Path) -> UnlabelledSlices:
    """Pseudo-labels that say nothing, of these slices."""
    assert like.classes is not None
    assert like.unknown is not None
    shape = (len(rows), *like.classes.shape[1:])
    classes, confidence = (torch.from_numpy(make_disk_array(shape, folder)) for _ in range(2))
    return UnlabelledSlices(rows, classes, confidence, torch.ones(len(rows), like.unknown.shape[1], dtype=torch.bool))


class _PseudoSlice(NamedTuple):
    """Views of one slice's pseudo-labels: classes and confidence (S, S), unknown (C,)."""

    classes: Tensor
    confidence: Tensor
    unknown: Tensor

    @classmethod
    def of(cls, labels: UnlabelledSlices, place: int) -> _PseudoSlice:
        assert labels.classes is not None
        assert labels.confidence is not None
        assert labels.unknown is not None
        return cls(labels.classes[place], labels.confidence[place], labels.unknown[place])


def _override_slice(model: _PseudoSlice, propagated: _PseudoSlice) -> None:
    """See `override`; changes `model`."""
    adds = F.pad(propagated.unknown, (1, 0))[model.classes.long()]  # the background adds nothing
    keeps = adds & ((propagated.classes == 0) | (model.confidence > propagated.confidence))
    model.classes.copy_(torch.where(keeps, model.classes, propagated.classes))
    model.confidence.copy_(torch.where(keeps, model.confidence, propagated.confidence))
    model.unknown.logical_and_(propagated.unknown)
