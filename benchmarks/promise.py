"""Do the promises hold? Coverage of the bounds, order of the confidence, and a reliability plot.

    python benchmarks/promise.py collect --here STORE --there STORE --out FOLDER [--group N] [--steps N]
    python benchmarks/promise.py collect-propagated --here MASKS LABELS TARGET --there MASKS LABELS TARGET --out FOLDER
    python benchmarks/promise.py tables --collected FOLDER [--name NAME]

`collect` trains one model on three patients of a store, another group of three for each N, and writes for every slice
of all other patients, and of another store, the pixels from which confidence and Dice are computed.
`collect-propagated` does so for two folders of `frugalseg propagate`, with the complete masks of their scans. `tables`
then draws calibration patients at random from the others, promises for the rest and for the other store with the
functions of the program, and writes the CSV files in docs/explanation/tables/promise/, or another folder beside it.
`benchmarks/draw_reliability.py` draws them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.stats import spearmanr

from frugalseg import finetune
from frugalseg.confidence.calibration import LEVEL, SCANS_NEEDED, ScoredMask, bound, calibrate, expect
from frugalseg.confidence.overlap import Overlap
from frugalseg.dataset.source import SliceSource
from frugalseg.dataset.store import SliceStore
from frugalseg.dataset.targets import parse_targets
from frugalseg.options import FinetuneOptions
from frugalseg.propagation.calibrate import score_scans as score_propagated
from frugalseg.records.confidence import OrganCalibration
from frugalseg.records.networks import SegmenterRecord
from frugalseg.segmentation.calibrate import score_scans
from frugalseg.segmentation.model import load_segmenter
from frugalseg.segmentation.validate import ValidationSet

TABLES = Path(__file__).resolve().parents[1] / "docs" / "explanation" / "tables"
TRAINED_ON = 3
REPEATS = 40
"""Random choices of calibration patients, for each model."""
PIXELS = ["mask", "shared", "other", "reference", "both"]


def collect(here: SliceStore, there: SliceStore, out: Path, group: int, steps: int) -> None:
    """Train on one group of patients; write the pixels of every slice of all others as CSV."""
    patients = np.random.default_rng(0).permutation(here.patients)
    train = patients[TRAINED_ON * group : TRAINED_ON * (group + 1)].tolist()
    if len(train) < TRAINED_ON:
        sys.exit(f"there is no group {group} of {TRAINED_ON} patients")
    others = [patient for patient in here.patients if patient not in train]
    out.mkdir(parents=True, exist_ok=True)
    split = out / f"split_{group}.json"
    split.write_text(json.dumps({"train": train, "validation": [], "test": others}))
    model = out / f"model_{group}"
    finetune(FinetuneOptions(data=here.folder, split=split, out=model, steps=steps, budget="3 scans", resume="auto"))
    frames = [
        measure(model, store, patients).assign(place=place, model=group)
        for place, store, patients in (("in domain", here, others), ("LiTS", there, there.patients))
    ]
    pd.concat(frames).to_csv(out / f"pixels_{group}.csv", index=False)


def collect_propagated(places: dict[str, tuple[str, str, str]], out: Path) -> None:
    """Write the pixels of every propagated slice of one organ as CSV.

    Args:
        places: name → folder of `frugalseg propagate`, complete masks, and the organ's values in these.
        out: folder for the CSV file.
    """
    frames = []
    for place, (folder, references, target) in places.items():
        (masks,) = score_propagated(Path(folder), Path(references), parse_targets([target])).values()
        frames.append(pd.DataFrame([row for one in masks for row in to_rows(one)]).assign(place=place, model=0))
    out.mkdir(parents=True, exist_ok=True)
    pd.concat(frames).to_csv(out / "pixels_0.csv", index=False)


def measure(run: Path, store: SliceStore, patients: Sequence[str]) -> pd.DataFrame:
    """One row for each slice that a mask of the first organ shows."""
    record = SegmenterRecord.read_run(run)
    cpu = torch.device("cpu")
    source = SliceSource(store, cpu, with_labels=True, context=record.context)
    validation = ValidationSet.from_store(store, tuple(patients), source, "auto")
    network = load_segmenter(run, record, cpu, "auto")
    masks = score_scans(validation, network, record.keep)["probabilities"]
    return pd.DataFrame([row for one in masks[next(iter(record.targets))] for row in to_rows(one)])


def to_rows(one: ScoredMask) -> Iterator[dict[str, object]]:
    """The slices of a mask; without those that neither it nor the reference shows."""
    columns = [one.own.mask, one.own.shared, one.own.other, one.true.other, one.true.shared]
    for z, pixels in enumerate(zip(*columns, strict=True)):
        if pixels[0] or pixels[3]:
            yield {"patient": one.patient, "slice": z, **dict(zip(PIXELS, pixels, strict=True))}


def to_masks(table: pd.DataFrame) -> list[ScoredMask]:
    """The masks of a table of pixels, a scan each; those that are empty are left out."""
    masks = []
    for patient, rows in table.groupby("patient"):
        mask, shared, other, reference, both = (rows[name].to_numpy(float) for name in PIXELS)
        if mask.any():
            masks.append(ScoredMask(str(patient), Overlap(mask, shared, other), Overlap(mask, both, reference)))
    return masks


def promise(calibration: OrganCalibration, masks: Iterable[ScoredMask]) -> Iterator[dict[str, object]]:
    """What is promised for masks, and what they are: a row for each scan."""
    for one in masks:
        confidence, dice = one.own.dice_of_slices(), one.true.dice_of_slices()
        lowest = bound(one.own.dice_of_scan(), calibration.scans)
        of_slices = bound(confidence, calibration.slices)
        assert of_slices is not None
        yield {
            "patient": one.patient,
            "expected": float(expect(one.own.dice_of_scan(), calibration.scans)),
            "bound": None if lowest is None else float(lowest),
            "dice": one.true.dice_of_scan(),
            "slices_kept": float(np.mean(dice >= of_slices)),
            "slice_bound": float(np.mean(of_slices)),
            "slice_dice": float(np.mean(dice)),
            "slices": list(zip(expect(confidence, calibration.slices), of_slices, dice, strict=True)),
        }


def make_promises(pixels: pd.DataFrame, count: int) -> pd.DataFrame:
    """Promises of calibrations on `count` patients in domain, for those left over and for the other place."""
    rows: list[dict[str, object]] = []
    for model, table in pixels.groupby("model"):
        here, there = (to_masks(table[table["place"] == place]) for place in ("in domain", "LiTS"))
        draw = np.random.default_rng([int(model), count])
        for repeat in range(REPEATS):
            order = draw.permutation(len(here))
            calibration = calibrate([here[i] for i in order[:count]], "all")
            assert calibration is not None
            for place, masks in (("in domain", [here[i] for i in order[count:]]), ("LiTS", there)):
                facts = {"place": place, "model": model, "repeat": repeat, "calibrated on": count}
                rows += [{**facts, **row} for row in promise(calibration, masks)]
    return pd.DataFrame(rows)


def tabulate_coverage(promises: pd.DataFrame) -> pd.DataFrame:
    """One row for each place and number of calibration patients."""
    found = []
    for (place, count), rows in promises.groupby(["place", "calibrated on"], sort=False):
        scans = rows["bound"].notna().all()
        rank = max(1, int(round((1 - LEVEL) * (count + 1), 6)))
        found.append(
            {
                "test scans": place,
                "calibration patients": count,
                "scans: promised": f"{LEVEL:.2f}" if scans else "–",
                "scans: above the bound": f"{(rows['dice'] >= rows['bound']).mean():.3f}" if scans else "–",
                "scans: mean bound": f"{rows['bound'].mean():.3f}" if scans else "–",
                "scans: mean Dice": f"{rows['dice'].mean():.3f}",
                "patients: promised": f"{1 - rank / (count + 1):.3f}",
                "patients with 9 of 10 slices above": f"{(rows['slices_kept'] >= LEVEL).mean():.3f}",
                "slices above the bound": f"{rows['slices_kept'].mean():.3f}",
                "slices: mean bound": f"{rows['slice_bound'].mean():.3f}",
                "slices: mean Dice": f"{rows['slice_dice'].mean():.3f}",
            }
        )
    return pd.DataFrame(found)


def tabulate_order(pixels: pd.DataFrame) -> pd.DataFrame:
    """Spearman's correlation of confidence and Dice, mean over the models."""
    found = []
    for place, of_place in pixels.groupby("place", sort=False):
        scans, slices = [], []
        for _, table in of_place.groupby("model"):
            masks = to_masks(table)
            scans.append(spearmanr([m.own.dice_of_scan() for m in masks], [m.true.dice_of_scan() for m in masks])[0])
            own, true = (np.concatenate([getattr(m, side).dice_of_slices() for m in masks]) for side in ("own", "true"))
            slices.append(spearmanr(own, true)[0])
        found.append({"test scans": place, "scans": f"{np.mean(scans):.2f}", "slices": f"{np.mean(slices):.2f}"})
    return pd.DataFrame(found)


def tabulate_reliability(promises: pd.DataFrame) -> pd.DataFrame:
    """Expected Dice in tenths, with the mean Dice that was measured, of scans and slices."""
    found = []
    for place, rows in promises.groupby("place", sort=False):
        of_slices = pd.DataFrame(
            [one for slices in rows["slices"] for one in slices], columns=["expected", "bound", "dice"]
        )
        for kind, table in (("scans", rows[["expected", "bound", "dice"]].astype(float)), ("slices", of_slices)):
            tenth = np.minimum((table["expected"] * 10).astype(int), 9)
            for _, part in table.groupby(tenth):
                if len(part) >= len(table) / 200:
                    means = {name: round(float(part[name].mean()), 4) for name in ("expected", "bound", "dice")}
                    tenth_percentile = round(float(part["dice"].quantile(1 - LEVEL)), 4)
                    share = round(len(part) / len(table), 4)
                    extremes = {"dice_10th_percentile": tenth_percentile, "share": share}
                    found.append({"place": place, "kind": kind, **means, **extremes})
    return pd.DataFrame(found)


def write_tables(folder: Path, out: Path) -> None:
    """All tables, from what was collected in a folder."""
    pixels = pd.concat([pd.read_csv(path) for path in sorted(folder.glob("pixels_*.csv"))])
    out.mkdir(parents=True, exist_ok=True)
    promises = [make_promises(pixels, count) for count in (2, 5, SCANS_NEEDED)]
    tabulate_order(pixels).to_csv(out / "order.csv", index=False)
    coverage = pd.concat([tabulate_coverage(one) for one in promises])
    coverage.sort_values("test scans", kind="stable", ascending=False).to_csv(out / "coverage.csv", index=False)
    tabulate_reliability(promises[-1]).to_csv(out / "reliability.csv", index=False)


def main(arguments: Sequence[str]) -> None:
    """Run the part that is named."""
    parser = argparse.ArgumentParser(description="Do the promises hold?")
    parts = parser.add_subparsers(dest="part", required=True)
    gather = parts.add_parser("collect")
    gather.add_argument("--here", type=Path, required=True, help="store to train on")
    gather.add_argument("--there", type=Path, required=True, help="store of another hospital")
    gather.add_argument("--out", type=Path, required=True)
    gather.add_argument("--group", type=int, default=0)
    gather.add_argument("--steps", type=int, default=300)
    propagated = parts.add_parser("collect-propagated")
    propagated.add_argument("--here", nargs=3, required=True, help="folder of `propagate`, complete masks, and target")
    propagated.add_argument("--there", nargs=3, required=True, help="the same of another hospital")
    propagated.add_argument("--out", type=Path, required=True)
    tables = parts.add_parser("tables")
    tables.add_argument("--collected", type=Path, required=True)
    tables.add_argument("--name", default="promise", help="folder in docs/explanation/tables")
    given = parser.parse_args(arguments)
    if given.part == "collect":
        collect(SliceStore.open(given.here), SliceStore.open(given.there), given.out, given.group, given.steps)
    elif given.part == "collect-propagated":
        collect_propagated({"in domain": given.here, "LiTS": given.there}, given.out)
    else:
        write_tables(given.collected, TABLES / given.name)


if __name__ == "__main__":
    main(sys.argv[1:])
