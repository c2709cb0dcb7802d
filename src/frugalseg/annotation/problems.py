"""Errors as HTTP responses: one table from kinds of errors to status codes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from frugalseg.annotation.job_table import JobError
from frugalseg.annotation.labels import LabelError
from frugalseg.annotation.messages import ConflictMessage, ErrorMessage
from frugalseg.annotation.prompts import PromptError
from frugalseg.annotation.scans import UnknownCaseError
from frugalseg.annotation.slices import ConflictError
from frugalseg.errors import DiskError, FrugalsegError


class RequestProblem(FrugalsegError):  # noqa: N818 - the page's user makes no error
    """A request that cannot be carried out, with its HTTP status."""

    def __init__(self, status: int, problem: str, cure: str) -> None:
        super().__init__(problem, cure)
        self.status = status


STATUS: Mapping[type[FrugalsegError], int] = {
    UnknownCaseError: 404,
    JobError: 409,
    LabelError: 422,
    PromptError: 503,
    DiskError: 507,
    FrugalsegError: 422,
}
"""Kind of error → HTTP status; the first that fits counts."""


def answer_errors(app: FastAPI) -> None:
    """Let the app answer every error with its message and what to do."""

    @app.exception_handler(ConflictError)
    async def answer_conflict(_: Request, error: ConflictError) -> JSONResponse:
        content = ConflictMessage(error.problem, error.cure, error.version, error.by)
        return JSONResponse(asdict(content), status_code=409)

    @app.exception_handler(FrugalsegError)
    async def answer_known(_: Request, error: FrugalsegError) -> JSONResponse:
        status = error.status if isinstance(error, RequestProblem) else _find_status(error)
        return _answer(status, error.problem, error.cure)

    @app.exception_handler(RequestValidationError)
    async def answer_invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        return _answer(422, f"{place}: {first['msg']}", "reload the page")

    @app.exception_handler(HTTPException)
    async def answer_http(_: Request, error: HTTPException) -> JSONResponse:
        return _answer(error.status_code, str(error.detail), "reload the page")


def _find_status(error: FrugalsegError) -> int:
    return next(status for kind, status in STATUS.items() if isinstance(error, kind))


def _answer(status: int, message: str, hint: str) -> JSONResponse:
    return JSONResponse(asdict(ErrorMessage(message, hint)), status_code=status)
