"""Metadata of every slice, as tensors, for samplers and pair rules."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from frugalseg.dataset.store import SliceStore

QUARTERS = 4
"""Parts of a scan in GCL's partition (arXiv 2006.10511)."""


@dataclass(frozen=True)
class SliceMetadata:
    """One entry for each slice, or after `select` for each embedding.

    Attributes:
        row: (N,) int64, the slice's row in the store.
        scan: (N,) int64, its scan.
        organs: (N,) int64, a number for T, the set of organs present; all 0 where labels may not be used.
        present: (N, organs) float32, T as zeros and ones; no columns where labels may not be used.
        position: (N,) float32, (z + 1) / number of the scan's slices, in (0, 1]; NaN for a scan of one slice.
        z_mm: (N,) float32, height in the scan.
        quarter: (N,) int64, which quarter of the scan's used slices it lies in, 0…3.
    """

    row: Tensor
    scan: Tensor
    organs: Tensor
    present: Tensor
    position: Tensor
    z_mm: Tensor
    quarter: Tensor

    @classmethod
    def from_store(cls, store: SliceStore, rows: npt.NDArray[np.int64], with_organs: bool) -> SliceMetadata:
        """The metadata of all slices of a store, indexed by its rows.

        Args:
            store: the slices.
            rows: those that are trained on; `organs` and `quarter` are meaningful for these only.
            with_organs: whether the method may use which organs a slice shows.
        """
        slices = store.slices
        present = slices[store.presence_columns].to_numpy(np.float32) if with_organs else np.zeros((len(slices), 0))
        organs = np.zeros(len(slices), np.int64)
        if present.shape[1]:
            organs = np.unique(present, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
        quarter = np.zeros(len(slices), np.int64)
        by_scan = slices.loc[rows].groupby("case")["z"]
        place = by_scan.rank(method="first").to_numpy() - 1
        quarter[rows] = QUARTERS * place // by_scan.transform("size").to_numpy()
        count = slices.groupby("case")["z"].transform("size")
        return cls(
            row=torch.arange(len(slices)),
            scan=torch.from_numpy(np.unique(slices["case"].to_numpy(str), return_inverse=True)[1].astype(np.int64)),
            organs=torch.from_numpy(organs),
            present=torch.from_numpy(present.astype(np.float32)),
            position=torch.from_numpy(slices["position"].where(count > 1).to_numpy(np.float32)),
            z_mm=torch.from_numpy(slices["z_mm"].to_numpy(np.float32)),
            quarter=torch.from_numpy(quarter),
        )

    def select(self, rows: Tensor) -> SliceMetadata:
        """The metadata of these entries, in this order; a row may be repeated."""
        return SliceMetadata(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def to(self, device: torch.device) -> SliceMetadata:
        """The same on `device`."""
        return SliceMetadata(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})
