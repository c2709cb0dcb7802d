"""`SliceMetadata` from lists, for tests."""

from __future__ import annotations

import numpy as np
import torch

from frugalseg.pretraining.slice_metadata import SliceMetadata


def make_metadata(scan, present, position=None, z_mm=None, quarter=None, row=None):
    """SliceMetadata of slices with these scans and organ sets; heights rise by 1 mm a slice within each scan."""
    scan, present = np.array(scan), np.array(present, np.float32).reshape(len(scan), -1)
    count = np.array([(scan == one).sum() for one in scan])
    place = np.array([(scan[:i] == scan[i]).sum() for i in range(len(scan))])
    organs = np.unique(present, axis=0, return_inverse=True)[1].reshape(-1)
    return SliceMetadata(
        row=torch.arange(len(scan)) if row is None else torch.tensor(row),
        scan=torch.from_numpy(scan.astype(np.int64)),
        organs=torch.from_numpy(organs.astype(np.int64)),
        present=torch.from_numpy(present),
        position=torch.tensor((place + 1) / count if position is None else position, dtype=torch.float32),
        z_mm=torch.tensor(place if z_mm is None else z_mm, dtype=torch.float32),
        quarter=torch.from_numpy((4 * place // count).astype(np.int64)) if quarter is None else torch.tensor(quarter),
    )
