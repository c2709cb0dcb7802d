"""What an encoder has learned, watched while it learns: a look at a few hundred training slices.

The figures are for watching. Nothing is trained on them and nothing chosen by them, so a method that needs no labels
stays one; but where scans have labels the probe looks at them, and `Probe.record` tells at how many.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import nn

from frugalseg.dataset.auroc import auroc
from frugalseg.dataset.source import SliceSource
from frugalseg.dataset.store import SliceStore
from frugalseg.models.blocks import ProjectionNet
from frugalseg.pretraining.embedding_metrics import Vectors, alignment, embedding_rank, is_collapsed, uniformity
from frugalseg.records.model import ProbeRecord

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

MAX_LABELLED = 100
"""Slices that the linear probe looks at, at most."""
MAX_PAIRS = 50
"""Pairs of neighbours that the geometry is measured on, at most."""
SLICES_AT_ONCE = 40
"""Slices embedded at once, at most."""


class Probe:
    """Figures of an encoder's embedding, before the projection head, on slices chosen once.

    Alignment is that of pairs of neighbours: a slice and the next one above it, of those given, in its scan. Uniformity
    and rank are those of the same slices. The linear probe tells how well a hyperplane parts slices that hold an organ
    from those that do not: it is fitted on the labelled scans of one half of the patients and scored on the other
    half's, then the other way round.

    Args:
        store: the slices.
        rows: (N,) rows of the store that may be looked at, the training patients'.
        source: gathers them; no labels needed.
        seed: of the choice of slices, and of the halves.

    Attributes:
        organs: those that the linear probe is scored on: each half has slices with and without them.
    """

    def __init__(self, store: SliceStore, rows: Ints, source: SliceSource, seed: int) -> None:
        self.source = source
        rng = np.random.default_rng([seed, 4])
        table = store.slices.loc[rows].sort_values(["case", "z"])
        self._first, self._second = _draw_neighbours(table, rng)
        chosen = _draw_labelled(table, store.presence_columns, rng)
        patients = rng.permutation(np.unique(chosen["patient"].to_numpy(str)))
        self._half: Flags = chosen["patient"].isin(patients[: len(patients) // 2]).to_numpy(bool)
        present: Flags = chosen[store.presence_columns].to_numpy(bool)
        has_both = [all(_has_both(column[half]) for half in (self._half, ~self._half)) for column in present.T]
        self.organs = [organ for organ, usable in zip(store.targets, has_both, strict=True) if usable]
        self._present: Flags = present[:, np.array(has_both, dtype=bool)]
        self._labelled = chosen.index.to_numpy(np.int64) if self.organs else np.array([], np.int64)
        self._labelled_scans = int(chosen["case"].nunique()) if self.organs else 0
        # Shuffled, so that batch norm meets a mixture of scans in every chunk.
        self._rows = rng.permutation(np.unique(np.concatenate([self._first, self._second, self._labelled])))
        self._warned = False

    @property
    def record(self) -> ProbeRecord:
        """What is looked at, for the run's record: the labels too, though nothing is learned from them."""
        return ProbeRecord(len(self._rows), len(self._labelled), self._labelled_scans, tuple(self.organs))

    def __call__(self, model: ProjectionNet) -> dict[str, float]:
        """Look at the encoder as it is now; leaves it and all random states as they were.

        Warns once when the embeddings have collapsed, or are not finite.

        Returns:
            "uniformity" and "embedding_rank"; "alignment" where scans have two slices or more; "probe_auroc" (the mean
            over `organs`, 0.5 is chance) where there are any. Nothing when embeddings are not finite.
        """
        vectors = self._embed(model)
        if not np.isfinite(vectors).all():
            self._warn("the encoder's embeddings are not finite: start again with a lower --lr, or --precision 32")
            return {}
        at = dict(zip(self._rows.tolist(), vectors, strict=True))
        both = _stack(at, np.union1d(self._first, self._second))
        figures = {"uniformity": uniformity(both), "embedding_rank": embedding_rank(both)}
        if len(self._second):
            figures["alignment"] = alignment(_stack(at, self._first), _stack(at, self._second))
        if self.organs:
            figures["probe_auroc"] = linear_probe_auroc(_stack(at, self._labelled), self._present, self._half)
        if is_collapsed(figures):
            self._warn("the encoder has collapsed: it embeds all slices at nearly the same place")
        return figures

    @torch.no_grad()
    def _embed(self, model: ProjectionNet) -> Vectors:
        """(slices, D) in the order of `_rows`; in float32, whatever training computes in."""
        chunks = torch.from_numpy(self._rows).tensor_split(
            -(-len(self._rows) // SLICES_AT_ONCE)
        )  # of equal size, for batch norm
        with _batch_statistics(model):
            parts = [model.represent(batch.images).float() for batch in self.source.stream(chunks)]
        return torch.cat(parts).cpu().numpy()

    def _warn(self, message: str) -> None:
        if not self._warned:
            warnings.warn(message, stacklevel=3)
        self._warned = True


def linear_probe_auroc(vectors: Vectors, present: Flags, half: Flags) -> float:
    """Area under the ROC curve of ridge regression, the mean over organs and over both ways round; 0.5 is chance.

    The penalty equals the mean squared length of a standardised vector: it only steadies the many directions that so
    few slices leave open.

    Args:
        vectors: (N, D).
        present: (N, organs), which slices hold each; both kinds must be in both halves.
        half: (N,), the first half; patients must not be in both.
    """
    areas = []
    for fitted in (half, ~half):
        mean, spread = vectors[fitted].mean(axis=0), vectors[fitted].std(axis=0)
        x = ((vectors - mean) / np.where(spread > 1e-6 * np.abs(mean), spread, np.inf)).astype(np.float64)
        fit, score = x[fitted], x[~fitted]
        gram = fit @ fit.T
        penalty = max(np.trace(gram) / len(fit), 1e-12)  # never 0: collapsed embeddings have no spread at all
        wanted = present[fitted] - present[fitted].mean(axis=0)
        weights = fit.T @ np.linalg.solve(gram + penalty * np.eye(len(fit)), wanted)
        areas += [auroc(scores, truth) for scores, truth in zip((score @ weights).T, present[~fitted].T, strict=True)]
    return float(np.mean([area for area in areas if area is not None]))


def _draw_neighbours(table: pd.DataFrame, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Rows of pairs, evenly from all scans; of scans of one slice each, single ones and no partners.

    Args:
        table: the slices, sorted by scan and z.
        rng: draws them.
    """
    rows, scans = table.index.to_numpy(np.int64), table["case"].to_numpy(str)
    lower = np.flatnonzero(scans[:-1] == scans[1:])
    if not len(lower):
        return rows[_draw_evenly(scans, MAX_PAIRS, rng)], rows[:0]
    lower = lower[_draw_evenly(scans[lower], MAX_PAIRS, rng)]
    return rows[lower], rows[lower + 1]


def _draw_labelled(table: pd.DataFrame, presence: list[str], rng: np.random.Generator) -> pd.DataFrame:
    """Slices of labelled scans, evenly from all pairs of a patient and a set of organs, so that rare ones are seen."""
    labelled = table[table["labelled"].to_numpy(bool)]
    keys = labelled["patient"].astype(str)
    for column in presence:
        keys = keys + labelled[column].map({True: "+", False: "-"})
    return labelled.iloc[_draw_evenly(keys.to_numpy(str), MAX_LABELLED, rng)]


def _draw_evenly(groups: npt.NDArray[np.str_], count: int, rng: np.random.Generator) -> Ints:
    """Places of `count` entries at most, at random, from all groups equally many as far as they last."""
    order = rng.permutation(len(groups))
    by_group = order[np.argsort(groups[order], kind="stable")]
    starts = np.unique(groups[by_group], return_index=True)[1]
    round_of = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
    ticket = rng.random(len(order))  # which groups the last round leaves out is chance, too
    return np.sort(by_group[np.lexsort((ticket, round_of))][:count])


def _has_both(values: Flags) -> bool:
    return bool(values.any() and not values.all())


def _stack(at: dict[int, Vectors], rows: Ints) -> Vectors:
    return np.stack([at[row] for row in rows.tolist()])


@contextmanager
def _batch_statistics(model: nn.Module) -> Iterator[None]:
    """Without dropout, and batch norm by what it is given; afterwards every module is as it was.

    Early in a run batch norm's running statistics are those of no data at all, and a healthy encoder would look
    collapsed. Statistics that are not tracked stay as they are.
    """
    modules = list(model.modules())
    before = [module.training for module in modules]
    norms = [module for module in modules if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    tracking = [norm.track_running_stats for norm in norms]
    model.eval()
    for norm in norms:
        norm.training, norm.track_running_stats = True, False
    try:
        yield
    finally:
        for module, training in zip(modules, before, strict=True):
            module.training = training
        for norm, tracked in zip(norms, tracking, strict=True):
            norm.track_running_stats = tracked
