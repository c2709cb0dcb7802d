"""How far the annotation is: effort, the model so far, and which slice to outline next."""

from __future__ import annotations

from collections.abc import Sequence

from frugalseg.annotation.cases import CaseSummary
from frugalseg.annotation.messages import Meter, ModelMessage, Suggestion
from frugalseg.annotation.session import Session
from frugalseg.annotation.slices import LABELLED
from frugalseg.annotation.trained import TrainedModel, recall_expected_dice, recall_suggestions


def measure_effort(session: Session) -> Meter:
    """Minutes, slices and cases so far."""
    row = session.database.one(
        "SELECT COUNT(*) AS slices, COUNT(DISTINCT case_id) AS cases FROM slices "
        "WHERE source IN ('outlined', 'reviewed')"
    )
    minutes = round(session.slices.seconds() / 60, 2)
    model = TrainedModel.find(session.database)
    message = "train to learn what Dice to expect" if model is None else model.message
    return Meter(minutes, row["slices"], row["cases"], recall_expected_dice(session.database), message)


def find_model(session: Session) -> ModelMessage | None:
    """The model of the last training."""
    model = TrainedModel.find(session.database)
    return None if model is None else ModelMessage(model.trained, model.slices, model.dice, model.message)


def find_suggestion(session: Session, summaries: Sequence[CaseSummary]) -> Suggestion | None:
    """The slice to look at next: of the last `suggest`, otherwise the least certain one, otherwise the middle of a scan
    that was not begun."""
    for suggested in recall_suggestions(session.database):
        known = suggested.case in session.scans.paths
        if known and session.slices.state(suggested.case, suggested.slice).source not in LABELLED:
            return suggested
    readable = sorted((s for s in summaries if s.state not in ("unreadable", "reviewed")), key=lambda s: s.rank)
    row = session.database.one(
        "SELECT case_id, z, confidence FROM slices WHERE source IN ('propagated', 'predicted') AND confidence NOT NULL "
        "ORDER BY confidence LIMIT 1"
    )
    if row is not None and any(summary.id == row["case_id"] for summary in readable):
        reason = f"least certain slice: confidence {row['confidence']:.2f}"
        return Suggestion(row["case_id"], row["z"], reason)
    for summary in readable:
        if summary.state == "new":
            if summary.shape is None:  # the number of its slices is known once it was opened
                session.prefetch(summary.id)
                return None
            reason = "middle of the first scan without an outline, since nothing is known about the scans yet"
            return Suggestion(summary.id, summary.shape[2] // 2, reason)
    return None
