"""Requests about one case: its slices, pictures and masks."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from typing import Annotated, Literal

import numpy as np
from fastapi import APIRouter, Body, Header, Request, Response
from fastapi.responses import StreamingResponse

from frugalseg.annotation.display import Display, Mask
from frugalseg.annotation.messages import CaseMessage, Changed, FocusMessage, PromptMessage, SliceMessage
from frugalseg.annotation.problems import RequestProblem
from frugalseg.annotation.scans import UnknownCaseError
from frugalseg.annotation.session import Session
from frugalseg.annotation.slices import Stroke

Tool = Literal[
    "brush", "eraser", "polygon", "fill", "threshold", "box", "points", "interpolate", "copy", "undo", "redo", "clear"
]
Client = Annotated[str, Header(alias="X-Client", max_length=64)]
IfMatch = Annotated[str | None, Header(alias="If-Match", max_length=32)]
LONGEST_STROKE_S = 3600.0


def make_router(session: Session) -> APIRouter:
    """The requests about cases."""
    router = APIRouter(tags=["cases"])

    def describe(case: str, client: str) -> CaseMessage:
        display = session.open(case)
        session.present(case, client)
        summary = session.cases.summaries([case])[0]
        return CaseMessage(
            id=case,
            shape=display.shape,
            spacing=display.upright.spacing,
            orientation=display.volume.axes,
            message=summary.message or "; ".join(display.volume.placement.doubts),
            windows=list(display.windows),
            range=display.limits,
            version=session.cases.version(case),
            saved=summary.saved,
            others=session.count_others(case, client),
            slices=[SliceMessage.of(state) for state in session.slices.of_case(case, display.shape[2])],
        )

    def open_slice(case: str, z: int) -> Display:
        display = session.open(case)
        if not 0 <= z < display.shape[2]:
            raise UnknownCaseError(f"there is no slice {z}, only 0…{display.shape[2] - 1}", "reload the page")
        return display

    def after_change(case: str, z: int) -> Changed:
        session.saver.drawn()
        session.masks_changed(case, [z])
        state = session.slices.state(case, z)
        return Changed(state.version, session.cases.version(case), state.source)

    @router.get("/api/cases/{case}")
    def read_case(case: str, client: Client = "") -> CaseMessage:
        """Grid, windows, and the state of each slice; opens the scan."""
        message = describe(case, client)
        session.prefetch_after(case)
        return message

    @router.get("/api/cases/{case}/slices/{z}/image", response_class=Response)
    def read_picture(case: str, z: int, request: Request) -> Response:
        """The slice as int16, little-endian, rows × columns; value = stored × X-Slope + X-Intercept."""
        display = open_slice(case, z)
        tag = f'"{hashlib.sha256(f"{session.scans.kept(session.scans.path(case))}/{z}".encode()).hexdigest()[:20]}"'
        rows, columns = display.pixels
        headers = {
            **{"ETag": tag, "Cache-Control": "private, max-age=86400", "X-Rows": str(rows), "X-Columns": str(columns)},
            **{"X-Slope": repr(display.scale.slope), "X-Intercept": repr(display.scale.intercept)},
        }
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(display.picture(z).tobytes(), media_type="application/octet-stream", headers=headers)

    @router.get("/api/cases/{case}/volume", response_class=StreamingResponse)
    def read_volume(case: str) -> StreamingResponse:
        """The whole scan as uncompressed NIfTI in display order."""
        display = session.open(case)
        planes = (display.picture(z) for z in range(display.shape[2]))
        return _stream(display, planes, "<i2", scaled=True)

    @router.get("/api/cases/{case}/mask", response_class=StreamingResponse)
    def read_case_mask(case: str) -> StreamingResponse:
        """The mask of the whole case as uncompressed NIfTI in display order."""
        display = session.open(case)
        planes = (session.slices.mask(case, z, display.pixels)[0] for z in range(display.shape[2]))
        return _stream(display, planes, "u1", scaled=False)

    @router.get("/api/cases/{case}/slices/{z}/mask", response_class=Response)
    def read_mask(case: str, z: int) -> Response:
        """The mask of a slice as uint8, rows × columns of label values."""
        display = open_slice(case, z)
        mask, state = session.slices.mask(case, z, display.pixels)
        headers = {"ETag": f'"{state.version}"', "X-Source": state.source or "", "Cache-Control": "no-cache"}
        return Response(mask.tobytes(), media_type="application/octet-stream", headers=headers)

    @router.put("/api/cases/{case}/slices/{z}/mask")
    def write_mask(
        case: str,
        z: int,
        body: Annotated[bytes, Body(media_type="application/octet-stream")],
        tool: Annotated[Tool, Header(alias="X-Tool")],
        if_match: IfMatch = None,
        seconds: Annotated[float, Header(alias="X-Seconds", ge=0)] = 0.0,
        client: Client = "",
    ) -> Changed:
        """Change the mask of a slice; it is on disk before the answer is sent."""
        display = open_slice(case, z)
        mask = _parse_mask(body, display, {label.value for label in session.labels.all()})
        stroke = Stroke(mask, tool, client, session.annotator, min(seconds, LONGEST_STROKE_S))
        session.slices.change(case, z, _parse_version(if_match), stroke)
        session.present(case, client)
        return after_change(case, z)

    @router.delete("/api/cases/{case}/slices/{z}/mask")
    def clear_mask(case: str, z: int, if_match: IfMatch = None, client: Client = "") -> Changed:
        """Make a slice unlabelled: without a mask, and no example of an empty slice."""
        display = open_slice(case, z)
        empty = np.zeros(display.pixels, np.uint8)
        stroke = Stroke(empty, "clear", client, session.annotator, source=None)
        session.slices.change(case, z, _parse_version(if_match), stroke)
        return after_change(case, z)

    @router.post("/api/cases/{case}/slices/{z}/accept")
    def accept_slice(case: str, z: int, client: Client = "") -> CaseMessage:
        """Accept the mask of a slice as it is: it becomes a label."""
        display = open_slice(case, z)
        session.slices.accept(case, [z], display.pixels, client, session.annotator)
        after_change(case, z)
        return describe(case, client)

    @router.post("/api/cases/{case}/accept")
    def accept_case(case: str, client: Client = "") -> CaseMessage:
        """Accept every mask of a case that a program made."""
        display = session.open(case)
        states = session.slices.of_case(case, display.shape[2])
        made = [state.slice for state in states if state.source in ("propagated", "predicted")]
        if not made:
            raise RequestProblem(422, "this scan has no propagated or predicted masks", "propagate or train first")
        session.slices.accept(case, made, display.pixels, client, session.annotator)
        session.saver.drawn()
        session.masks_changed(case, made)
        return describe(case, client)

    @router.post("/api/cases/{case}/focus", status_code=202)
    def focus(case: str, message: FocusMessage, client: Client = "") -> None:
        """Embed the slice on screen and those around it for the next prompt."""
        open_slice(case, message.slice)
        session.present(case, client)
        session.prompter.focus(case, message.slice)

    @router.post("/api/cases/{case}/slices/{z}/prompt", response_class=Response)
    def prompt(case: str, z: int, message: PromptMessage) -> Response:
        """The mask of a box or of points: uint8, rows × columns of 0 and 1."""
        open_slice(case, z)
        if message.box is None and not message.points:
            raise RequestProblem(422, "a prompt needs a box or a point", "draw one")
        begun = time.perf_counter()
        answer = session.prompter.ask(case, z, message.box, tuple(message.points), message.previous)
        assert answer.mask is not None
        milliseconds = 1000 * (time.perf_counter() - begun)
        headers = {"X-Score": f"{answer.score:.3f}", "X-Milliseconds": f"{milliseconds:.0f}"}
        return Response(answer.mask.tobytes(), media_type="application/octet-stream", headers=headers)

    return router


def _stream(display: Display, planes: Iterator[np.ndarray], dtype: str, scaled: bool) -> StreamingResponse:
    size = 352 + np.dtype(dtype).itemsize * int(np.prod(display.shape))
    return StreamingResponse(
        display.stream_nifti(planes, dtype, scaled),
        media_type="application/octet-stream",
        headers={"Content-Length": str(size)},
    )


def _parse_version(if_match: str | None) -> int:
    text = (if_match or "").strip().strip('"')
    if not text.isdecimal():
        raise RequestProblem(428, "the header If-Match must state the version of the slice", "reload the page")
    return int(text)


def _parse_mask(body: bytes, display: Display, values: set[int]) -> Mask:
    rows, columns = display.pixels
    if len(body) != rows * columns:
        raise RequestProblem(422, f"the mask has {len(body)} bytes, expected {rows}×{columns}", "reload the page")
    mask = np.frombuffer(body, np.uint8).reshape(rows, columns)
    if unknown := {int(value) for value in np.unique(mask)} - values - {0}:
        raise RequestProblem(422, f"there is no label {min(unknown)}", "reload the page")
    return mask
