"""The labels that a training may use, and how its record counts them; for every model that predicts masks."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sized
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from frugalseg.dataset.budget import Budget
from frugalseg.dataset.store import SliceStore
from frugalseg.engine.progress import say
from frugalseg.errors import OptionError
from frugalseg.options import Keep
from frugalseg.records.model import AnnotationUse
from frugalseg.records.split import Split


class LabelOptions(Protocol):
    """The options of a training from a budget of labels."""

    @property
    def data(self) -> Path:
        """The slice store."""

    @property
    def split(self) -> Path | None:
        """A split to use instead of the store's."""

    @property
    def budget(self) -> str:
        """How many labels, see `dataset.budget`."""

    @property
    def label_draw(self) -> int:
        """Number of the random draw of these labels."""


def open_labelled(options: LabelOptions) -> tuple[SliceStore, Budget, Split]:
    """The store, the budget and the split of a training from labels.

    Raises:
        StoreError, SplitError: as their docstrings say.
        OptionError: the store has no labels, or the budget is invalid.
    """
    store = SliceStore.open(options.data)
    if not store.targets:
        raise OptionError(f"{store.folder} has no labels", "prepare it again with --labels and --target")
    return store, Budget.parse(options.budget), store.split(options.split)


def validation_rows(store: SliceStore, split: Split) -> npt.NDArray[np.int64]:
    """Rows of all slices of the validation patients."""
    return store.slices.index[store.slices["patient"].isin(split.validation)].to_numpy(np.int64)


LOWEST_LOGIT = -8.0
"""Of an organ of fewer pixels than one in 3000, which would otherwise have next to no probability anywhere."""


def frequency_logits(store: SliceStore, rows: npt.NDArray[np.int64]) -> list[float]:
    """For each organ log(its pixels / background pixels) in these labelled slices, at least `LOWEST_LOGIT`."""
    counts = np.zeros(len(store.targets) + 1, dtype=np.int64)
    for row in rows:
        counts += np.bincount(store.labels[row].ravel(), minlength=len(counts))
    background, *organs = np.maximum(counts, 1).tolist()
    return [max(LOWEST_LOGIT, float(np.log(pixels / background))) for pixels in organs]


def keep_everything(targets: Iterable[str]) -> dict[str, Keep]:
    """Post-processing without validation labels to choose it by: keep everything of each mask. Warns of it."""
    warnings.warn(
        "no validation patient has labels of a target: the last step's model is saved, with no post-processing",
        stacklevel=3,
    )
    return dict.fromkeys(targets, "all")


def report_kept(keep: Mapping[str, Keep]) -> None:
    """Print which post-processing was chosen for each organ."""
    say("chosen post-processing: " + ", ".join(f"{organ} {kept}" for organ, kept in keep.items()))


def make_annotation_use(
    options: LabelOptions, store: SliceStore, labelled: npt.NDArray[np.int64], validation: Mapping[str, Sized]
) -> AnnotationUse:
    """The counts of masks that a training used, for its record.

    Args:
        options: of the training.
        store: the slices.
        labelled: rows whose masks were trained on.
        validation: case id → rows of the slices that the model was validated on.
    """
    return AnnotationUse(
        budget=options.budget,
        draw=options.label_draw,
        masks=len(labelled),
        mask_scans=int(store.slices.loc[labelled, "case"].nunique()),
        validation_scans=len(validation),
        validation_masks=sum(len(rows) for rows in validation.values()),
    )
