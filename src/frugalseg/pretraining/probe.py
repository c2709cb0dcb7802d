"""Monitoring of an encoder during pre-training, on a few hundred training slices.

The figures are for monitoring only: they neither train nor select anything, so a method without labels stays without.
Where scans have labels the probe reads some, and `Probe.record` states how many.
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
from frugalseg.records.networks import ProbeRecord

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

MAX_LABELLED = 100
"""Most slices of the linear probe."""
MAX_PAIRS = 50
"""Most pairs of neighbours that alignment, uniformity and rank are measured on."""
SLICES_AT_ONCE = 40
"""Most slices embedded at once."""


class Probe:
    """Figures of an encoder's embedding, before the projection head, on a fixed sample of slices.

    Alignment is that of pairs of neighbours: a slice and the next one above it in its scan, of those given. Uniformity
    and rank are those of the same slices. The linear probe measures how well a hyperplane separates slices that show an
    organ from those that do not: it is fitted on the labelled scans of one half of the patients and scored on the other
    half, then vice versa.

    Args:
        store: the slices.
        rows: (N,) rows of the store to sample from, of training patients.
        source: of the images; needs no labels.
        seed: of the sample and of the halves.

    Attributes:
        organs: those of the linear probe: each half has slices with and without them.
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
        varies = [all(_has_both(column[half]) for half in (self._half, ~self._half)) for column in present.T]
        self.organs = [organ for organ, usable in zip(store.targets, varies, strict=True) if usable]
        self._present: Flags = present[:, np.array(varies, dtype=bool)]
        self._labelled = chosen.index.to_numpy(np.int64) if self.organs else np.array([], np.int64)
        self._labelled_scans = int(chosen["case"].nunique()) if self.organs else 0
        # Shuffled, so that every chunk mixes scans, for batch norm.
        self._rows = rng.permutation(np.unique(np.concatenate([self._first, self._second, self._labelled])))
        self._warned = False

    @property
    def record(self) -> ProbeRecord:
        """Which slices and labels are read, for the run's record; nothing is learned from the labels."""
        return ProbeRecord(len(self._rows), len(self._labelled), self._labelled_scans, tuple(self.organs))

    def __call__(self, model: ProjectionNet) -> dict[str, float]:
        """Measure the present encoder; leaves it and all random states unchanged.

        Warns once when the embeddings have collapsed, or are not finite.

        Returns:
            "uniformity" and "embedding_rank"; "alignment" where a scan has two slices or more; "probe_auroc" (the mean
            over `organs`, 0.5 is chance) where there are organs. Empty when embeddings are not finite.
        """
        vectors = self._embed(model)
        if not np.isfinite(vectors).all():
            self._warn("the encoder's embeddings are not finite: start again with a lower --lr, or --precision 32")
            return {}
        vector_of = dict(zip(self._rows.tolist(), vectors, strict=True))
        both = _stack_rows(vector_of, np.union1d(self._first, self._second))
        figures = {"uniformity": uniformity(both), "embedding_rank": embedding_rank(both)}
        if len(self._second):
            figures["alignment"] = alignment(_stack_rows(vector_of, self._first), _stack_rows(vector_of, self._second))
        if self.organs:
            figures["probe_auroc"] = linear_probe_auroc(
                _stack_rows(vector_of, self._labelled), self._present, self._half
            )
        if is_collapsed(figures):
            self._warn("the encoder has collapsed: it gives all slices nearly the same embedding")
        return figures

    @torch.no_grad()
    def _embed(self, model: ProjectionNet) -> Vectors:
        """(slices, D) in the order of `_rows`; in float32, whatever the precision of the training."""
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
    """Area under the ROC curve of ridge regression, averaged over organs and both directions; 0.5 is chance.

    The penalty is the mean squared length of a standardised vector: it only regularises the many directions that so
    few slices do not determine.

    Args:
        vectors: (N, D).
        present: (N, organs), which slices show each; each half has slices with and without it.
        half: (N,), which slices are in the first half; no patient is in both.
    """
    areas = []
    for fitted in (half, ~half):
        mean, spread = vectors[fitted].mean(axis=0), vectors[fitted].std(axis=0)
        x = ((vectors - mean) / np.where(spread > 1e-6 * np.abs(mean), spread, np.inf)).astype(np.float64)
        fit, score = x[fitted], x[~fitted]
        gram = fit @ fit.T
        penalty = max(np.trace(gram) / len(fit), 1e-12)  # never 0: collapsed embeddings have no variance
        wanted = present[fitted] - present[fitted].mean(axis=0)
        weights = fit.T @ np.linalg.solve(gram + penalty * np.eye(len(fit)), wanted)
        areas += [auroc(scores, truth) for scores, truth in zip((score @ weights).T, present[~fitted].T, strict=True)]
    return float(np.mean([area for area in areas if area is not None]))


def _draw_neighbours(table: pd.DataFrame, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Rows of pairs of neighbours, evenly from all scans; single slices where no scan has two.

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
    """Slices of labelled scans, evenly from all combinations of patient and organs, so that rare ones are included."""
    labelled = table[table["labelled"].to_numpy(bool)]
    keys = labelled["patient"].astype(str)
    for column in presence:
        keys = keys + labelled[column].map({True: "+", False: "-"})
    return labelled.iloc[_draw_evenly(keys.to_numpy(str), MAX_LABELLED, rng)]


def _draw_evenly(groups: npt.NDArray[np.str_], count: int, rng: np.random.Generator) -> Ints:
    """Positions of at most `count` random entries, equally many of each group as long as it has any."""
    order = rng.permutation(len(groups))
    by_group = order[np.argsort(groups[order], kind="stable")]
    starts = np.unique(groups[by_group], return_index=True)[1]
    round_of = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
    ticket = rng.random(len(order))  # the groups left out of the last round are random, too
    return np.sort(by_group[np.lexsort((ticket, round_of))][:count])


def _has_both(values: Flags) -> bool:
    return bool(values.any() and not values.all())


def _stack_rows(vector_of: dict[int, Vectors], rows: Ints) -> Vectors:
    return np.stack([vector_of[row] for row in rows.tolist()])


@contextmanager
def _batch_statistics(model: nn.Module) -> Iterator[None]:
    """Without dropout, and batch norms with the statistics of the batch; restores every module afterwards.

    Early in a run the running statistics of batch norms are far from the data's, and a healthy encoder would look
    collapsed. Running statistics are not updated.
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
