"""Which slices should be outlined? Dice on validation patients, for each way to choose a few slices.

    python benchmarks/choose_slices.py STORE --rule random interval --slices 5 20 --steps 300 >> FILE.csv
    python benchmarks/choose_slices.py STORE --rule random unsure entropy --slices 5 --more 5 >> FILE.csv

The patients of the store are divided into four folds as in a cross-validation: of 16, 4 are held out and never read, 2
are for validation, 10 for training. Every training is scored on its validation patients, at its last step, so that
nothing is chosen on test patients.

With --more, a model is trained on the first of --slices random slices, and --more further ones are chosen with it: by
the rules of `frugalseg suggest`, by `entropy` (one slice a scan, the one with most expected errors), or
without looking at it (`random`, `interval`). Slices without the organ count as annotation.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import numpy.typing as npt

from frugalseg.commands.finetune import finetune
from frugalseg.dataset.budget import Budget, draw_labels
from frugalseg.dataset.slice_choice import RULES as CHOICES
from frugalseg.dataset.store import SliceStore
from frugalseg.engine.progress import console
from frugalseg.options import FinetuneOptions, SuggestOptions
from frugalseg.records.networks import SegmenterRecord
from frugalseg.records.split import Split
from frugalseg.suggestion.candidates import Candidates
from frugalseg.suggestion.certainty import QueriedModel
from frugalseg.suggestion.features import compute_features
from frugalseg.suggestion.rules import RULES as SUGGESTIONS
from frugalseg.suggestion.rules import Evidence

Rows = npt.NDArray[np.int64]
FOLDS = 4
COLUMNS = ("store", "preset", "steps", "fold", "draw", "rule", "slices", "chosen_by_model", "showing", "dice")


def make_folds(patients: list[str]) -> list[Split]:
    """Four splits: a quarter of the patients for test, the two before them for validation, the others for training."""
    quarter = len(patients) // FOLDS
    turned = [patients[quarter * fold :] + patients[: quarter * fold] for fold in range(FOLDS)]
    return [
        Split(tuple(sorted(one[: -quarter - 2])), tuple(sorted(one[-quarter - 2 : -quarter])), tuple(one[-quarter:]))
        for one in turned
    ]


@dataclass(frozen=True)
class Experiment:
    """Trainings on chosen rows of a store."""

    store: SliceStore
    split: Split
    draw: int
    preset: str
    steps: int
    folder: Path

    def draw_rows(self, rule: str, slices: int) -> Rows:
        """The slices that `finetune --choose` takes."""
        choose, columns = CHOICES[rule](self.store), self.store.presence_columns  # type: ignore[index]
        return draw_labels(self.store.slices, self.split.train, Budget(slices, "slices"), self.draw, columns, choose)

    def train(self, rows: Rows, name: str) -> tuple[Path, float]:
        """The run of a training on these slices, and its Dice on the validation patients at the last step."""
        self.split.write(self.folder / f"{name}.json")
        options = FinetuneOptions(
            data=self.store.folder,
            out=self.folder / name,
            split=self.folder / f"{name}.json",
            preset=self.preset,  # type: ignore[arg-type]
            budget=f"{len(rows)} slices",
            steps=self.steps,
            validate_every=self.steps,
            device="cpu",
        )
        with mock.patch("frugalseg.segmentation.finetune.draw_labels", return_value=rows):
            finetune(options)
        dice = SegmenterRecord.read_run(options.out).validation_dice
        return options.out, float("nan") if dice is None else dice

    def choose_more(self, first: Rows, run: Path, rule: str, more: int) -> Rows:
        """`first`, and further slices by a rule that asks the model of `run`."""
        if rule in CHOICES:
            return self.draw_rows(rule, len(first) + more)
        slices = self.store.slices
        rows = slices.index[slices["patient"].isin(self.split.train)].to_numpy(np.int64)
        candidates = Candidates(self.store, np.setdiff1d(rows, first), first, len(rows) - len(first))
        options = SuggestOptions(data=self.store.folder, out=self.folder, model=run, device="cpu")
        certainty = QueriedModel.open(run, self.store).measure(self.store, candidates.rows, options)
        if rule == "entropy":
            table = candidates.table.assign(errors=certainty.errors).sort_values("errors", ascending=False)
            picked = table.groupby("case", sort=False).head(1).index.to_numpy(np.int64)[:more]
        else:
            evidence = Evidence(
                candidates, lambda asked: compute_features(self.store, asked, options), certainty, self.draw
            )
            picked = np.array([choice.row for choice in SUGGESTIONS[rule](evidence, more)], np.int64)
        return np.sort(np.concatenate([first, picked]))


def run_experiment(
    experiment: Experiment, rules: list[str], slices: list[int], more: int
) -> Iterator[tuple[str, Rows, int, float]]:
    """Rule, rows, number of rows that a model chose, and Dice, of every training."""
    if not more:
        for count in slices:
            for rule in rules:
                rows = experiment.draw_rows(rule, count)
                yield rule, rows, 0, experiment.train(rows, f"{rule}-{count}")[1]
        return
    first = experiment.draw_rows("random", slices[0])
    run, dice = experiment.train(first, "first")
    yield "random", first, 0, dice
    for rule in rules:
        rows = experiment.choose_more(first, run, rule, more)
        yield rule, rows, more, experiment.train(rows, f"more-{rule}")[1]


def main() -> None:
    """Run the command line's experiment, and print one line of CSV per training."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--rule", nargs="+", default=["random", "interval", "suggest"])
    parser.add_argument("--slices", nargs="+", type=int, default=[5])
    parser.add_argument("--more", type=int, default=0)
    parser.add_argument("--fold", nargs="+", type=int, default=list(range(FOLDS)))
    parser.add_argument("--draw", nargs="+", type=int, default=[0])
    parser.add_argument("--preset", default="robust")
    parser.add_argument("--steps", type=int, default=300)
    given = parser.parse_args()
    console.quiet = True
    warnings.simplefilter("ignore")
    store, writer = SliceStore.open(given.store), csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(COLUMNS)
    for draw in given.draw:
        for fold in given.fold:
            with tempfile.TemporaryDirectory() as folder:
                split = make_folds(store.patients)[fold]
                experiment = Experiment(store, split, draw, given.preset, given.steps, Path(folder))
                for rule, rows, asked, dice in run_experiment(experiment, given.rule, given.slices, given.more):
                    showing = int(store.slices.loc[rows, store.presence_columns].any(axis=1).sum())
                    place = (given.store.name, given.preset, given.steps, fold, draw)
                    writer.writerow([*place, rule, len(rows), asked, showing, round(dice, 4)])
                    sys.stdout.flush()


if __name__ == "__main__":
    main()
