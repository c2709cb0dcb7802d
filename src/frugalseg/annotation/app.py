"""The server's application: routes, errors, the page, and the guard around them."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from frugalseg._version import __version__
from frugalseg.annotation.problems import answer_errors
from frugalseg.annotation.routes import cases, files, jobs, labels, state
from frugalseg.annotation.security import AccessRules, Guard
from frugalseg.annotation.session import Session

ROUTERS = (state.make_router, cases.make_router, jobs.make_router, labels.make_router, files.make_router)


def make_api(session: Session) -> FastAPI:
    """The application without its guard; its OpenAPI description is at /api/openapi.json."""
    # FastAPI's own pages about the API load scripts from elsewhere; see `files.add_page`.
    app = FastAPI(
        title="frugalseg annotate", version=__version__, openapi_url="/api/openapi.json", docs_url=None, redoc_url=None
    )
    answer_errors(app)
    for make_router in ROUTERS:
        app.include_router(make_router(session))
    files.add_page(app)
    return app


def make_app(session: Session, rules: AccessRules) -> Any:
    """The application as it is served (ASGI)."""
    return Guard(make_api(session), rules)
