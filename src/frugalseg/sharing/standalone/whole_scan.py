"""The network of a MONAI bundle applied to whole scans; needs monai, torch, nibabel, NumPy and SciPy."""

from pathlib import Path

import numpy as np
import torch
from monai.data import MetaTensor
from monai.inferers import Inferer

from .processing import Processing


class WholeScanInferer(Inferer):
    """Slices of a scan in batches, with what happens before and after the network.

    Args:
        recipe: path of recipe.json.
        slices_at_once: slices in a batch.
    """

    def __init__(self, recipe, slices_at_once=4):
        super().__init__()
        self.steps = Processing.read(Path(recipe))
        self.slices_at_once = slices_at_once

    @torch.inference_mode()
    def __call__(self, inputs, network, *args, **kwargs):
        """A scan (1, X, Y, Z) with axes L, P, S, as MetaTensor → its mask, of the same shape and grid."""
        slices = inputs[0].cpu().numpy().transpose(2, 1, 0)
        columns_mm, rows_mm = (float(mm) for mm in inputs.pixdim[:2])
        squares = self.steps.prepare(slices, (rows_mm, columns_mm))
        device = next(network.parameters()).device
        batches = torch.split(torch.from_numpy(squares), self.slices_at_once)
        found = np.concatenate([network(batch.to(device)).cpu().numpy() for batch in batches])
        mask = self.steps.finish(found, squares, slices.shape[1:], (rows_mm, columns_mm))
        return MetaTensor(torch.from_numpy(mask.transpose(2, 1, 0).copy())[None], meta=dict(inputs.meta))


def segment_all(data, preprocessing, inferer, network, postprocessing):
    """Segment every scan of `data`, and write its mask."""
    for entry in data:
        loaded = preprocessing(entry)
        postprocessing({**loaded, "pred": inferer(loaded["image"], network)})
