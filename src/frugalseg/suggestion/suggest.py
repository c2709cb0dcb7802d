"""`frugalseg suggest`: which scans and slices to outline next, and why."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from frugalseg._version import __version__
from frugalseg.dataset.store import SliceStore
from frugalseg.engine.files import check_out
from frugalseg.engine.progress import say
from frugalseg.engine.threads import with_threads
from frugalseg.errors import OptionError, RunError
from frugalseg.options import SuggestOptions
from frugalseg.records.suggestions import SUGGESTIONS_FILE, BudgetForecast, Suggestion, SuggestionsRecord
from frugalseg.suggestion.candidates import Candidates, find_candidates, find_scan
from frugalseg.suggestion.features import compute_features
from frugalseg.suggestion.for_mask import PropagatedSlices, choose_for_mask, weigh_slices
from frugalseg.suggestion.rules import AUTO, MEANINGS, RULES, Choice, Evidence
from frugalseg.suggestion.sheet import draw_sheet
from frugalseg.text import align_columns, format_number, pluralize

if TYPE_CHECKING:
    from frugalseg.studies.report.forecast import BudgetCurve
    from frugalseg.suggestion.certainty import Certainty, QueriedModel

SHEET_FILE = "suggestions.png"
RULE_FOR_MASK = "nearest-change"


@with_threads
def suggest(options: SuggestOptions) -> SuggestionsRecord:
    """Suggest slices to outline, and write suggestions.json and a contact sheet into `options.out`.

    No label is read. Slices of validation and test patients are not suggested for a model.

    Raises:
        StoreError, SplitError: as their docstrings say; or nothing is left to outline.
        OptionError: the budget is larger than what is left, an unknown scan, or a model of other targets.
        RunError: `out` has suggestions already, or a run is not finished or damaged.
        DeviceError: the requested GPU is missing.
    """
    check_out(options.out)
    if (options.out / SUGGESTIONS_FILE).exists() and not options.overwrite:
        raise RunError(f"{options.out} has suggestions already", "choose another --out, or give --overwrite")
    store = SliceStore.open(options.data)
    model = _open_model(options, store)
    if options.for_ == "mask":
        assert options.scan is not None
        candidates = find_scan(store, options.scan, options.budget)
    else:
        candidates = find_candidates(store, store.split(options.split), options.budget, options.partial)
    forecasts = () if options.study is None else _forecast(options.study, candidates, options.budget)
    certainty = None if model is None else model.measure(store, candidates.rows, options)
    if options.for_ == "mask":
        rule, choices = RULE_FOR_MASK, _choose_for_mask(candidates, certainty, options)
    else:
        rule, choices = _choose_for_model(candidates, certainty, options)
    record = SuggestionsRecord(
        version=__version__,
        purpose=options.for_,
        data=str(options.data),
        model=None if options.model is None else str(options.model),
        targets=store.targets or (model.record.targets if model else {}),
        rule=rule,
        candidates=candidates.left,
        suggestions=_describe(candidates, certainty, choices),
        forecasts=forecasts,
    )
    _draw(options.out / SHEET_FILE, candidates, certainty, choices, record.suggestions)
    record.write(options.out / SUGGESTIONS_FILE)
    lines = [f"rule {rule}: {MEANINGS[rule]}", format_table(record), *map(_format_forecast, record.forecasts)]
    say("\n".join(lines))
    return record


def _open_model(options: SuggestOptions, store: SliceStore) -> QueriedModel | None:
    if options.model is None:
        return None
    from frugalseg.suggestion.certainty import QueriedModel  # imports PyTorch, which takes seconds

    return QueriedModel.open(options.model, store)


def _choose_for_model(
    candidates: Candidates, certainty: Certainty | None, options: SuggestOptions
) -> tuple[str, list[Choice]]:
    """The rule, and the slices that it chooses."""
    rule = AUTO if options.rule == "auto" else options.rule
    evidence = Evidence(
        candidates, lambda rows: compute_features(candidates.store, rows, options), certainty, options.label_draw
    )
    return rule, RULES[rule](evidence, options.budget)


def _choose_for_mask(candidates: Candidates, certainty: Certainty | None, options: SuggestOptions) -> list[Choice]:
    assert options.scan is not None
    known = None
    if options.propagated is not None:
        known = PropagatedSlices.read(options.propagated, options.scan, len(candidates.rows))
    area = np.zeros(len(candidates.rows))
    if known is not None:
        area = known.area
    elif certainty is not None:
        area = certainty.areas.astype(np.float64)
    if not area.any():
        say(
            "it is not known where the organ is, so all slices of the scan count equally"
            + (": give --model, if you have one" if certainty is None else ": the model finds none in this scan")
        )
    features = compute_features(candidates.store, candidates.rows, options)
    return choose_for_mask(candidates.rows, features, options.budget, weigh_slices(area), known)


def _describe(candidates: Candidates, certainty: Certainty | None, choices: Sequence[Choice]) -> tuple[Suggestion, ...]:
    chosen = candidates.store.slices.loc[[choice.row for choice in choices]]
    scans = {scan.case: scan for scan in candidates.store.record.scans}
    confidence = {}
    if certainty is not None:
        confidence = dict(zip(candidates.rows.tolist(), certainty.confidence.tolist(), strict=True))
    found = []
    for choice, case, z in zip(choices, chosen["case"].astype(str), chosen["z"].to_numpy(int), strict=True):
        value = confidence.get(choice.row)
        found.append(
            Suggestion(
                case=case,
                patient=scans[case].patient,
                image=scans[case].image,
                slice=int(z),
                slices=scans[case].slices,
                reason=choice.reason,
                represents=choice.represents,
                confidence=None if value is None or not np.isfinite(value) else round(value, 4),
            )
        )
    return tuple(found)


def _forecast(study: Path, candidates: Candidates, more: int) -> tuple[BudgetForecast, ...]:
    from frugalseg.studies.report.forecast import fit_curves
    from frugalseg.studies.report.results import collect_results
    from frugalseg.studies.report.scores import Scores

    curves = [curve for curve in fit_curves(Scores(collect_results(study))) if curve.unit == "slices"]
    if not curves:
        raise OptionError(
            f"--study {study} has no curve of slices: no method has finished at two budgets of slices",
            'give a study with budgets like ["5 slices", "20 slices"], or leave out --study',
        )
    outlined = candidates.outlined_count
    if outlined == 0:
        say("no forecast: nothing is outlined yet, and the first slices lie before every curve")
        return ()
    return tuple(_forecast_curve(curve, outlined, more) for curve in curves)


def _forecast_curve(curve: BudgetCurve, outlined: int, more: int) -> BudgetForecast:
    found = curve.forecast(outlined, more)
    low, high = found.interval.limits or (None, None)
    return BudgetForecast(
        method=curve.method,
        organ=curve.endpoint.organ,
        test=curve.endpoint.test.name,
        outlined=outlined,
        more=more,
        gain=round(found.gain, 5),
        low=low,
        high=high,
    )


def _format_forecast(forecast: BudgetForecast) -> str:
    sure = " (no interval)"
    if forecast.low is not None and forecast.high is not None:
        sure = f" ± {format_number((forecast.high - forecast.low) / 2, 3)}"
    return (
        f"{pluralize(forecast.more, 'more slice')} after {forecast.outlined}: "
        f"{format_number(forecast.gain, 3, sign=True)}{sure} Dice "
        f"({forecast.method}, {forecast.organ} on {forecast.test})"
    )


def _draw(
    path: Path,
    candidates: Candidates,
    certainty: Certainty | None,
    choices: Sequence[Choice],
    suggestions: Sequence[Suggestion],
) -> None:
    rows = np.array([choice.row for choice in choices], np.int64)
    masks = None if certainty is None else certainty.masks[np.searchsorted(candidates.rows, rows)]
    draw_sheet(path, suggestions, candidates.store.images[rows], masks)


def format_table(record: SuggestionsRecord) -> str:
    """The suggestions as a table for the terminal."""
    head = ["", "scan", "slice", "of", *(["expected Dice"] if record.model else []), "why"]
    lines = [
        [
            *(str(n), one.case, str(one.slice), f"0…{one.slices - 1}"),
            *([format_number(one.confidence, 2)] if record.model else []),
            one.reason,
        ]
        for n, one in enumerate(record.suggestions, 1)
    ]
    return align_columns([head, *lines])
