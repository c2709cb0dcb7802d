"""The state of the session, and the events that tell what has changed."""

from __future__ import annotations

import json

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from frugalseg._version import __version__
from frugalseg.annotation.messages import PromptableMessage, StateMessage
from frugalseg.annotation.progress import find_model, find_suggestion, measure_effort
from frugalseg.annotation.session import Session

NOTICE = "For research use only: frugalseg is not a medical device."


def make_router(session: Session) -> APIRouter:
    """The requests about the session as a whole."""
    router = APIRouter(tags=["session"])

    @router.get("/api/state")
    def read_state() -> StateMessage:
        """Cases, labels, what can be done, and the effort so far."""
        summaries = session.cases.summaries(session.scans.paths)
        problem, cure = session.prompter.missing()
        return StateMessage(
            version=__version__,
            folder=session.images.name,
            out=session.place.out.name,
            cases=summaries,
            labels=session.labels.all(),
            promptable=PromptableMessage(None, f"{problem}; {cure}")
            if problem
            else PromptableMessage(session.options.model, ""),
            suggestion=find_suggestion(session, summaries),
            model=find_model(session),
            meter=measure_effort(session),
            references=bool(session.references),
            read_only=session.options.read_only,
            disk=session.saver.trouble,
            notice=NOTICE,
        )

    @router.get("/api/events", response_class=StreamingResponse)
    async def read_events() -> StreamingResponse:
        """Server-sent events: job, case, state."""
        hello = json.dumps({"type": "hello", "version": __version__})
        return StreamingResponse(session.events.stream(hello), media_type="text/event-stream")

    return router
