"""Organs that models of a study have not learned: their Dice was 0 on the validation patients."""

from __future__ import annotations

from collections import Counter

import pandas as pd

from frugalseg.text import pluralize

GROUP = ["method", "backbone", "budget"]


def describe_unlearned(trials: pd.DataFrame) -> list[str]:
    """A line for each method, backbone and budget of which some finished run has not learned an organ.

    Args:
        trials: as in `StudyResults`.
    """
    done = trials[trials["state"] == "done"]
    lines = []
    for group, runs in done.groupby(GROUP, sort=False):
        counts = Counter(organ for text in runs["unlearned"] for organ in text.split(", ") if organ)
        if counts:
            total = pluralize(len(runs), "run")
            organs = ", ".join(f"{organ} in {count} of {total}" for organ, count in counts.items())
            lines.append(f"{', '.join(map(str, group))}: {organs}")
    return lines
