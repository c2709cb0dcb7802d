"""Exports, reference masks, the page itself, and the page about this API."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Response
from fastapi.responses import FileResponse, HTMLResponse

from frugalseg.annotation.export import export_masks
from frugalseg.annotation.messages import DiceMessage, ExportMessage, ExportRequest
from frugalseg.annotation.problems import RequestProblem
from frugalseg.annotation.references import ReferenceMasks
from frugalseg.annotation.security import POLICY, format_policy
from frugalseg.annotation.session import Session

PAGE = Path(__file__).resolve().parents[1] / "page"
"""The built page."""

NO_PAGE = (
    "<!doctype html><html lang=en><meta charset=utf-8><title>frugalseg annotate</title>"
    "<body><h1>The page is not built</h1><p>The server runs, but this installation has no page. "
    "In a checkout, run <code>make web</code> (needs Node), then reload; wheels contain the page.</p>"
    "<p><a href=/docs-api>The HTTP API</a></p>"
)

API_STYLE = (
    "body{font:15px system-ui;margin:2rem auto;max-width:70rem;color-scheme:light dark}"
    "td{padding:.3rem .8rem .3rem 0;vertical-align:top}pre{font-size:12px}"
)
"""Style of the page about the API, which its policy allows by its hash."""

TYPES = {
    ".css": "text/css",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript",
    ".json": "application/json",
    ".map": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
    ".woff2": "font/woff2",
}
"""Suffix → media type: the system's own table may lack some, and the page does not run with wrong ones."""


def make_router(session: Session) -> APIRouter:
    """The requests about files."""
    router = APIRouter(tags=["files"])
    references = ReferenceMasks(session)

    @router.post("/api/export")
    def export(message: ExportRequest) -> ExportMessage:
        """Write the masks for other programs, into a folder beside that of the annotations."""
        folder, files = export_masks(session, message.format)
        return ExportMessage(str(folder), files)

    @router.get("/api/references/{case}/slices/{z}/mask", response_class=Response)
    def read_reference(case: str, z: int) -> Response:
        """A slice of the reference mask, as uint8, rows × columns; only with --references."""
        return Response(references.slice(case, z).tobytes(), media_type="application/octet-stream")

    @router.get("/api/cases/{case}/dice")
    def read_dice(case: str) -> DiceMessage:
        """Dice of each label with the reference; only with --references."""
        return DiceMessage(references.dice(case))

    return router


def add_page(app: FastAPI, folder: Path = PAGE) -> None:
    """Serve the page in `folder`, and a page about the API."""

    @app.get("/docs-api", include_in_schema=False)
    def read_docs() -> HTMLResponse:
        policy = format_policy({**POLICY, "style-src": _hash_source(API_STYLE)})
        return HTMLResponse(format_api(app.openapi()), headers={"Content-Security-Policy": policy})

    @app.get("/", include_in_schema=False)
    def read_index() -> Response:
        index = folder / "index.html"
        return FileResponse(index, media_type=TYPES[".html"]) if index.is_file() else HTMLResponse(NO_PAGE)

    @app.get("/{path:path}", include_in_schema=False)
    def read_file(path: str) -> FileResponse:
        file = (folder / path).resolve()
        if not (file.is_relative_to(folder.resolve()) and file.is_file() and file.suffix in TYPES):
            raise RequestProblem(404, "there is no such page", "open / instead")
        return FileResponse(file, media_type=TYPES[file.suffix])


def format_api(schema: dict[str, Any]) -> str:
    """The OpenAPI description as one page that loads nothing else."""
    rows = []
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            words = html.escape(operation.get("description", operation.get("summary", "")))
            rows.append(f"<tr><td><code>{method.upper()}</code><td><code>{html.escape(path)}</code><td>{words}")
    shapes = [
        f"<h3 id={html.escape(name)}>{html.escape(name)}</h3><p>{html.escape(shape.get('description', ''))}</p>"
        f"<pre>{html.escape(json.dumps(shape.get('properties', {}), indent=1))}</pre>"
        for name, shape in schema.get("components", {}).get("schemas", {}).items()
    ]
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>frugalseg annotate: HTTP API</title>"
        f"<style>{API_STYLE}</style>"
        f"<h1>HTTP API of frugalseg annotate</h1><p>As JSON: <a href=/api/openapi.json>OpenAPI</a></p>"
        f"<table>{''.join(rows)}</table><h2>Messages</h2>{''.join(shapes)}"
    )


def _hash_source(style: str) -> str:
    """The source of a Content-Security-Policy that allows this inline text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}'"
