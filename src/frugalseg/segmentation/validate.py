"""Dice per volume on the validation patients, at the store's resolution: for choosing the model, not a result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from frugalseg.dataset.source import SliceSource
from frugalseg.dataset.store import SliceStore
from frugalseg.engine.device import autocast
from frugalseg.engine.progress import progress
from frugalseg.imaging.likeliest import likeliest
from frugalseg.masks.components import filter_components
from frugalseg.options import Keep, Precision

SLICES_AT_ONCE = 32


def dice_per_class(predicted: npt.NDArray[np.uint8], reference: npt.NDArray[np.uint8], classes: int) -> list[float]:
    """2|A∩B| / (|A|+|B|) of the classes 1…C over a whole volume; NaN where the reference lacks the class.

    Volumes without the organ do not count in the choice of the model: their Dice would be undefined for an empty
    prediction and 0 for any other, which would favour a model that predicts nothing.
    """
    pairs = np.bincount(
        predicted.ravel().astype(np.int64) * (classes + 1) + reference.ravel(), minlength=(classes + 1) ** 2
    ).reshape(classes + 1, classes + 1)
    sizes = (pairs.sum(axis=0) + pairs.sum(axis=1))[1:]
    both = np.diag(pairs)[1:]
    held = pairs.sum(axis=0)[1:]
    return [2 * float(b) / float(s) if there else float("nan") for b, s, there in zip(both, sizes, held, strict=True)]


@dataclass(frozen=True)
class ValidationSet:
    """The labelled volumes of some patients.

    Attributes:
        cases: case id → rows of its slices, in order of z.
    """

    store: SliceStore
    source: SliceSource
    cases: dict[str, Tensor]
    precision: Precision

    @classmethod
    def from_store(
        cls, store: SliceStore, patients: tuple[str, ...], source: SliceSource, precision: Precision
    ) -> ValidationSet:
        """All labelled scans of `patients`."""
        chosen = store.slices[store.slices["patient"].isin(patients) & store.slices["labelled"]]
        cases = {
            str(case): torch.tensor(table.sort_values("z").index.to_numpy()) for case, table in chosen.groupby("case")
        }
        return cls(store, source, cases, precision)

    @torch.inference_mode()
    def predict(self, model: nn.Module, case: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """Predicted and reference classes of one volume, (Z, S, S)."""
        predicted, reference = [], []
        for rows in torch.split(self.cases[case], SLICES_AT_ONCE):
            batch = self.source.gather(rows)
            assert batch.labels is not None
            with autocast(self.precision, self.source.device):
                logits = model(*batch.inputs).float().transpose(0, 1)
            classes = likeliest(torch.zeros_like(logits[0]), logits)
            classes[batch.blank] = 0
            predicted.append(classes.cpu().numpy())
            reference.append(batch.labels.cpu().numpy())
        return np.concatenate(predicted), np.concatenate(reference)

    def find_whole_cases(self) -> list[str]:
        """The cases of which every slice has a label."""
        slices = self.store.slices.groupby("case").size()
        return [case for case, rows in self.cases.items() if len(rows) == slices[case]]

    def _iterate_cases(self, title: str, cases: Sequence[str]) -> Iterator[str]:
        """These cases in turn, with a progress bar."""
        with progress(title, len(cases), "scans") as bar:
            for case in cases:
                yield case
                bar.advance()

    def dice(self, model: nn.Module) -> dict[str, float]:
        """Mean Dice of each organ over the volumes whose reference shows it, and "dice", their mean."""
        table = [self._dice(*self.predict(model, case)) for case in self._iterate_cases("validation", list(self.cases))]
        return self._means(np.array(table, dtype=float).reshape(-1, len(self.store.targets)))

    def choose_keep(self, model: nn.Module, candidates: Sequence[Keep]) -> dict[str, Keep]:
        """Organ → the candidate with the highest mean Dice on these volumes; the first of equals.

        Only volumes that are labelled as a whole count: single slices have no components in 3D.
        """
        organs = list(self.store.targets)
        if len(candidates) == 1 or not (whole := self.find_whole_cases()):
            return dict.fromkeys(organs, candidates[0])
        dice = np.zeros((len(candidates), len(organs)))
        for case in self._iterate_cases("choosing the post-processing", whole):
            predicted, reference = self.predict(model, case)
            for row, keep in zip(dice, candidates, strict=True):
                row += np.nan_to_num(self._dice(filter_components(predicted.copy(), [keep] * len(organs)), reference))
        return {organ: candidates[best] for organ, best in zip(organs, dice.argmax(axis=0), strict=True)}

    def _dice(self, predicted: npt.NDArray[np.uint8], reference: npt.NDArray[np.uint8]) -> list[float]:
        return dice_per_class(predicted, reference, len(self.store.targets))

    def _means(self, table: npt.NDArray[np.float64]) -> dict[str, float]:
        means = {
            organ: float(np.nanmean(column))
            for organ, column in zip(self.store.targets, table.T, strict=True)
            if np.isfinite(column).any()
        }
        if not means:
            return {}
        overall = float(np.mean(list(means.values())))
        return {**{f"dice_{organ}": value for organ, value in means.items()}, "dice": overall, "score": overall}
