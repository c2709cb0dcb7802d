"""Studies with made-up scores."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd

from frugalseg.evaluation.metric_table import Better, Place, list_metrics
from frugalseg.studies.report import results as study

Dice = Callable[[str, str, int, int, int], float]
"""(method, budget, draw, seed, number of the patient) → Dice."""


def made_up_study(
    dice: Dice,
    methods: Iterable[str] = ("scratch", "best"),
    backbones: Iterable[str] = ("unet",),
    budgets: Iterable[str] = ("1 scan", "3 scans"),
    draws: Iterable[int] = (0, 1),
    seeds: Iterable[int] = (0, 1, 2),
    tests: Iterable[study.TestSet] = (study.TestSet("held-out", True, True, 8),),
    organs: Iterable[str] = ("liver",),
    transductive: Iterable[str] = (),
    uses_test_references: Iterable[str] = (),
    external: Iterable[str] = (),
    state: Callable[[str, str, int, int], str] = lambda *_: "done",
) -> study.StudyResults:
    """Every test set has as many patients as scans; where more is better a metric is the Dice, where
    less is, 100 times 1 - Dice."""
    parts = [tuple(part) for part in (methods, backbones, budgets, draws, seeds)]
    tests, organs = tuple(tests), tuple(organs)
    apart = {
        "transductive": set(transductive),
        "uses_test_references": set(uses_test_references),
        "external": set(external),
    }
    trials: list[dict[str, Any]] = []
    cases: list[dict[str, Any]] = []
    for method, backbone, budget, draw, seed in _grid(parts):
        key = {"method": method, "backbone": backbone, "budget": budget, "draw": draw, "seed": seed}
        trials.append(key | _trial(state(method, budget, draw, seed), parts[2].index(budget)))
        trials[-1] |= {column: method in those for column, those in apart.items()}
        trials[-1] |= {"draws": str(draw), "seeds": str(seed), "trained": True, "annotation": ""}
        for test in tests if trials[-1]["state"] == "done" else ():
            for organ in organs:
                for i in range(test.scans):
                    score = dice(method, budget, draw, seed, i)
                    cases.append(key | {"test": test.name, "organ": organ} | _case(f"{test.name}-{i:02d}", score))
    return study.StudyResults(
        name="made-up",
        description="Scores that nobody measured.",
        baseline="scratch",
        methods=parts[0],
        backbones=parts[1],
        budgets=parts[2],
        draws=parts[3],
        seeds=parts[4],
        tests=tests,
        method_notes={m: f"what {m} is" for m in parts[0]},
        trials=pd.DataFrame(trials),
        cases=pd.DataFrame(cases),
    )


def _grid(parts: list[tuple[Any, ...]]) -> Iterable[tuple[Any, ...]]:
    import itertools

    return itertools.product(*parts)


def _trial(state: str, step: int) -> dict[str, Any]:
    done = state == "done"
    return {
        "state": state,
        "error": "CUDA out of memory\nTraceback …" if state == "failed" else "",
        "test_slices": 0 if done else np.nan,
        "masks": 40 * (step + 1) if done else np.nan,
        "mask_scans": step + 1 if done else np.nan,
        "validation_masks": 80 if done else np.nan,
        "validation_scans": 2 if done else np.nan,
        "organ_present_labels": 0 if done else np.nan,
        "pretrain_scans": 20 if done else np.nan,
        "semi": "none" if done else "",
        "unlabelled_slices": 0 if done else np.nan,
        "unlabelled_scans": 0 if done else np.nan,
        "pretrain_minutes": 1.5 if done else np.nan,
        "finetune_minutes": 2.0 + step if done else np.nan,
        "parameters": 1_962_337 if done else np.nan,
        "device": "cpu" if done else "",
        "commit": "0" * 40 if done else "",
        "validation_dice": 0.9 if done else np.nan,
        "unlearned": "",
    }


def _case(case: str, dice: float) -> dict[str, Any]:
    nan = float("nan")
    outcome = "both_empty" if dice != dice else "both" if dice > 0 else "missed"
    values = {
        Better.HIGHER: dice,
        Better.LOWER: 100.0 * (1.0 - dice),
        Better.NEITHER: nan if dice != dice else -1.0,
    }
    metrics = {metric.key: values[metric.better] for metric in list_metrics(Place.STUDIES)}
    return {"case": case, "patient": f"patient-{case}", "outcome": outcome, **metrics}
