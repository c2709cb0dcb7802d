"""Which slices a method may be trained on, and whether they can teach it anything."""

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

Ints = npt.NDArray[np.int64]


def select_training_slices(store: SliceStore, split: Split, options: PretrainOptions) -> Ints:
    """Rows of the training patients' slices that the method may use.

    Raises:
        SplitError: for methods on organ presence, when no training scan is labelled.
        OptionError: there are fewer than a batch, or --min-distance-mm asks for a distance that a scan does not tell.
    """
    slices = store.slices
    usable = slices["patient"].isin(split.train).to_numpy() & store.middle(options.middle_fraction)
    if METHODS[options.method].annotation != "none":
        unlabelled = usable & ~slices["labelled"].to_numpy()
        usable &= slices["labelled"].to_numpy()
        if not usable.any():
            raise SplitError(
                f"{options.method} needs to know which slices hold the target, and no training scan has labels",
                "use a method that needs no labels, --method polycl-s or simclr for example",
            )
        if unlabelled.any():
            cases = slices.loc[unlabelled, "case"].nunique()
            warnings.warn(
                f"{options.method} needs image-level labels: {cases} unlabelled scans are left out "
                "(polycl-s, simclr and others would use them)",
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
            f"--min-distance-mm needs the distance between slices, which {flat.idxmax()} does not have",
            "leave out --min-distance-mm, or prepare the store from files with their spacing",
        )


def _height_range(heights: npt.NDArray[np.float32]) -> float:
    """Largest less smallest of the heights that are known; endless where none is, for then no two are near."""
    known = heights[~np.isnan(heights)]
    return float(np.ptp(known)) if len(known) else np.inf


def check_variety(options: PretrainOptions, rows: Ints, metadata: SliceMetadata) -> None:
    """Refuse slices that are all alike in what the method tells apart.

    Raises:
        SplitError: one scan, one set of organs, or one height only.
    """
    must_differ_in = METHODS[options.method].must_differ_in
    if must_differ_in == "scans" and (np.bincount(metadata.scan.numpy()[rows]) > 1).sum() < 2:
        raise SplitError(
            f"{options.method} tells scans apart, and there is one scan only of two slices or more, or none",
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
