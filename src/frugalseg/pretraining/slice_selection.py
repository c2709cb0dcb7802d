"""Which slices a method may be trained on, and whether they vary enough for it."""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt

from frugalseg.dataset.store import SliceStore
from frugalseg.errors import OptionError, SplitError
from frugalseg.options import PretrainOptions
from frugalseg.pretraining.methods import METHODS
from frugalseg.pretraining.slice_metadata import SliceMetadata
from frugalseg.records.split import Split
from frugalseg.text import pluralize

Ints = npt.NDArray[np.int64]


def select_training_slices(store: SliceStore, split: Split, options: PretrainOptions) -> Ints:
    """Rows in the store of the training patients' slices that the method may use.

    Raises:
        SplitError: no training scan is labelled, and the method needs image-level labels.
        OptionError: there are fewer slices than a batch, or --min-distance-mm is given and a scan has no slice spacing.
    """
    slices = store.slices
    usable = slices["patient"].isin(split.train).to_numpy() & store.is_middle(options.middle_fraction)
    if METHODS[options.method].annotation != "none":
        unlabelled = usable & ~slices["labelled"].to_numpy()
        usable &= slices["labelled"].to_numpy()
        if not usable.any():
            raise SplitError(
                f"{options.method} needs to know which slices show the target, and no training scan has labels",
                "use a method that needs no labels, --method polycl-s or simclr for example",
            )
        if unlabelled.any():
            scans = pluralize(slices.loc[unlabelled, "case"].nunique(), "scan")
            warnings.warn(
                f"{options.method} needs image-level labels: {pluralize(int(unlabelled.sum()), 'unlabelled slice')} of "
                f"{scans} are not used (polycl-s, simclr and others would use them)",
                stacklevel=2,
            )
    rows = np.flatnonzero(usable)
    if len(rows) < options.batch_size:
        raise OptionError(
            f"--batch-size {options.batch_size} is more than the {len(rows)} slices to train on",
            "give a smaller one, or more scans",
        )
    if options.min_distance_mm > 0:
        _check_heights(store, rows)
    return rows


def _check_heights(store: SliceStore, rows: Ints) -> None:
    heights = store.slices.loc[rows].groupby("case")["z_mm"]
    flat = (heights.size() > 1) & ~(heights.max() - heights.min() > 0)  # NaN is not above 0 either
    if flat.any():
        raise OptionError(
            f"--min-distance-mm needs the distance between slices, which is unknown for {flat.idxmax()}",
            "leave out --min-distance-mm, or prepare the store from files that state their spacing",
        )


def _height_range(heights: npt.NDArray[np.float32]) -> float:
    """Range of the known heights; infinite where none is known, since no two slices are then close."""
    known = heights[~np.isnan(heights)]
    return float(np.ptp(known)) if len(known) else np.inf


def check_variety(options: PretrainOptions, rows: Ints, metadata: SliceMetadata) -> None:
    """Refuse slices that do not differ in what the method compares.

    Raises:
        SplitError: there is only one scan, one set of organs, or one height.
    """
    must_differ_in = METHODS[options.method].must_differ_in
    if must_differ_in == "scans" and (np.bincount(metadata.scan.numpy()[rows]) > 1).sum() < 2:
        raise SplitError(
            f"{options.method} compares scans, and fewer than two scans have two slices or more",
            "train on more scans",
        )
    if must_differ_in == "organs" and len(np.unique(metadata.organs.numpy()[rows])) < 2:
        raise SplitError(
            f"{options.method} learns from which organs a slice shows, and all slices show the same organs",
            "use a method that needs no labels (polycl-s, simclr), or give more of each scan",
        )
    if must_differ_in == "heights" and _height_range(metadata.position.numpy()[rows]) < options.position_threshold:
        raise SplitError(
            f"{options.method} finds no negative: all slices are within {options.position_threshold:g} of each other",
            "give whole scans, a smaller --position-threshold, or use --method simclr",
        )
