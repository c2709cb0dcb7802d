"""Segment a scan with PyTorch: python predict.py scan.nii.gz mask.nii.gz.

Needs torch, nibabel, NumPy and SciPy; not frugalseg.
"""

import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform
from processing import Processing

HERE = Path(__file__).resolve().parent


@torch.inference_mode()
def segment(scan: nib.Nifti1Image) -> np.ndarray:
    """The mask of a scan, in its own grid."""
    steps = Processing.read(HERE / "recipe.json")
    network = torch.jit.load(HERE / "model.ts").eval()
    own, wanted = io_orientation(scan.affine), axcodes2ornt("LPS")
    array = apply_orientation(np.asanyarray(scan.dataobj), ornt_transform(own, wanted))
    order = ornt_transform(own, wanted)[:, 0].argsort().astype(int)
    columns_mm, rows_mm = np.linalg.norm(scan.affine[:3, :3], axis=0)[order][:2]
    slices, spacing = array.transpose(2, 1, 0), (float(rows_mm), float(columns_mm))
    squares = steps.prepare(slices, spacing)
    batches = [network(torch.from_numpy(squares[z : z + 4])).numpy() for z in range(0, len(squares), 4)]
    mask = steps.finish(np.concatenate(batches), squares, slices.shape[1:], spacing)
    return apply_orientation(mask.transpose(2, 1, 0), ornt_transform(wanted, own))


if __name__ == "__main__":
    image = nib.load(sys.argv[1])
    nib.save(nib.Nifti1Image(segment(image), image.affine), sys.argv[2])
