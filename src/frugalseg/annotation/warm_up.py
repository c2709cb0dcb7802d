"""What the server does before the page asks for it: the first scan is opened, and the promptable model loaded.

Loading the model takes several seconds, and unpacking a large scan one or two. Both begin with the server.
"""

from __future__ import annotations

import threading
from contextlib import suppress

from frugalseg.annotation.messages import Suggestion
from frugalseg.annotation.progress import find_suggestion
from frugalseg.annotation.session import Session
from frugalseg.errors import FrugalsegError


def start_warming_up(session: Session) -> None:
    """Begin in the background."""
    threading.Thread(target=warm_up, args=(session,), name="warm-up", daemon=True).start()


def warm_up(session: Session) -> None:
    """Open the scan that is looked at first; then load the model, which takes longer, and embed its suggested slice."""
    first: Suggestion | None = None
    with suppress(FrugalsegError):  # opening it later says what is wrong
        found = _find_first_slice(session)
        if found is not None:
            session.open(found.case)
        first = found
    if session.options.read_only:
        return
    if first is None:
        session.prompter.start()
    else:
        session.prompter.focus(first.case, first.slice)


def _find_first_slice(session: Session) -> Suggestion | None:
    """The slice to outline first; its scan is opened where the number of its slices is not known yet."""
    summaries = session.cases.summaries(session.scans.paths)
    new = [summary for summary in summaries if summary.state == "new"]
    if len(new) == len(summaries) and summaries:
        session.open(min(new, key=lambda summary: summary.rank).id)
        summaries = session.cases.summaries(session.scans.paths)
    return find_suggestion(session, summaries)
