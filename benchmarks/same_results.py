"""Check that refactoring does not change results: hashes of the commands' results on phantoms.

    python benchmarks/same_results.py --out before.json        # with the old code
    python benchmarks/same_results.py --out after.json --against before.json

Runs a demo (prepare, pretrain, finetune, predict, evaluate), `refine` with a small network with random weights, and a
study of two trials, on one CPU thread. Hashes the tensors of every model, the voxels of every mask, and the numbers
of every table. Names of files, columns and options may differ; numbers may not. Times, dates and versions are
excluded.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is loaded: sums depend on the number of threads

import argparse
import hashlib
import json
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from safetensors.numpy import load_file

from frugalseg.cli import main as frugalseg

UNSTEADY = ("second", "minute", "hour", "commit", "date", "version", "memory", "wait", "sha", "path", "model", "file")
"""Columns and keys with these words in their names contain times, paths or versions, and are excluded."""

PLAN = """\
name: two trials
data:
  phantoms: {phantoms: 8, grid: [48, 48, 16], size: 48, seed: 0}
train: phantoms
tests:
  held-out phantoms: {data: phantoms}
finetune: {steps: 6, batch_size: 4, device: cpu, precision: "32"}
methods:
  scratch: {}
  self-training: {finetune: {semi: self-training}}
budgets: ["1 scans"]
draws: [0]
seeds: [0]
baseline: scratch
"""


def run(*arguments: object) -> None:
    """Run one command; exit if it fails."""
    if code := frugalseg([str(argument) for argument in arguments]):
        raise SystemExit(f"frugalseg {arguments[0]} ended with {code}")


def run_commands(folder: Path) -> None:
    """Run everything that is compared, in `folder`."""
    demo = folder / "demo"
    run("demo", "--out", demo, "--phantoms", 8, "--size", 64, "--steps", 12, "--pretrain-epochs", 1, "--device", "cpu")
    save_small_sam(folder / "sam")
    run(
        *("refine", "--images", demo / "scans" / "images", "--masks", demo / "predictions", "--model", folder / "sam"),
        *("--out", folder / "refined", "--device", "cpu", "--precision", "32", "--case", "phantom_00"),
    )
    (folder / "plan.yaml").write_text(PLAN, encoding="utf-8")
    run("study", folder / "plan.yaml", "--out", folder / "study")


def save_small_sam(folder: Path) -> None:
    """Save a SAM with a few thousand random weights in the format of `transformers`."""
    import torch
    from transformers import SamConfig, SamModel

    vision = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "output_channels": 16}
    vision |= {"image_size": 64, "patch_size": 8, "window_size": 4, "global_attn_indexes": [0], "mlp_dim": 16}
    prompts = {"hidden_size": 16, "image_size": 64, "patch_size": 8, "mask_input_channels": 8}
    decoder = {"hidden_size": 16, "mlp_dim": 16, "iou_head_hidden_dim": 16}
    torch.manual_seed(0)
    config = SamConfig(
        vision_config={**vision, "num_pos_feats": 8}, prompt_encoder_config=prompts, mask_decoder_config=decoder
    )
    SamModel(config).save_pretrained(folder)


def results(folder: Path) -> dict[str, list[str]]:
    """Kind of result → the sorted hashes of all results of that kind."""
    return {
        "weights": sorted(map(of_weights, folder.rglob("model.safetensors"))),
        "masks": sorted(map(of_mask, folder.rglob("*.nii.gz"))),
        "tables": sorted(map(of_table, (path for path in folder.rglob("*.csv") if "cost" not in path.name))),
        "summaries": sorted(map(of_summary, folder.rglob("summary.json"))),
    }


def of_weights(path: Path) -> str:
    """Hash of all tensors, sorted by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(load_file(path).items()):
        digest.update(f"{name} {tensor.dtype} {tensor.shape}".encode())
        digest.update(np.ascontiguousarray(tensor).tobytes())
    return digest.hexdigest()


def of_mask(path: Path) -> str:
    """Hash of voxels and affine."""
    image = nib.load(path)
    digest = hashlib.sha256(np.asarray(image.dataobj).astype(np.int32).tobytes())
    digest.update(np.round(image.affine, 4).tobytes())
    return digest.hexdigest()


def of_table(path: Path) -> str:
    """Hash of the numeric columns, row by row, without their names."""
    table = pd.read_csv(path)
    numeric = table.select_dtypes("number")
    steady = [name for name in numeric if not any(word in str(name).lower() for word in UNSTEADY)]
    return hashlib.sha256(numeric[steady].to_csv(index=False, header=False).encode()).hexdigest()


def of_summary(path: Path) -> str:
    """Hash of all numbers in a JSON file, in their order."""
    numbers = [repr(number) for number in numbers_in(json.loads(path.read_text(encoding="utf-8")))]
    return hashlib.sha256(" ".join(numbers).encode()).hexdigest()


def numbers_in(content: object, name: str = "") -> Iterator[float]:
    """Every number that is not a time, version or format."""
    if any(word in name.lower() for word in (*UNSTEADY, "format")):
        return
    if isinstance(content, dict):
        for key in content:
            yield from numbers_in(content[key], str(key))
    elif isinstance(content, list):
        for value in content:
            yield from numbers_in(value, name)
    elif isinstance(content, (int, float)) and not isinstance(content, bool):
        yield float(content) if math.isfinite(content) else math.nan


def compare(before: dict[str, list[str]], after: dict[str, list[str]]) -> bool:
    """Print one line per kind; returns whether all results are identical."""
    same = True
    for kind, hashes in before.items():
        common = len(hashes) - len(set(hashes) - set(after[kind]))
        alike = hashes == after[kind]
        same &= alike
        verdict = "all identical" if alike else f"{common} identical"
        print(f"{kind}: {len(hashes)} before, {len(after[kind])} after, {verdict}")
    return same


def main() -> None:
    """Run, write the hashes, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="JSON file for the hashes")
    parser.add_argument("--against", type=Path, help="hashes of another version of the code")
    parser.add_argument("--keep", type=Path, help="folder for all results, instead of a temporary one")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        run_commands(folder)
        found = results(folder)
    arguments.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if arguments.against and not compare(json.loads(arguments.against.read_text(encoding="utf-8")), found):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
