"""Requests about labels."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import asdict

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from frugalseg.annotation.labels import Label
from frugalseg.annotation.messages import LabelChange, LabelInUse, NewLabel
from frugalseg.annotation.routes.cases import Client
from frugalseg.annotation.session import Session
from frugalseg.text import pluralize


def make_router(session: Session) -> APIRouter:
    """The requests about labels."""
    router = APIRouter(tags=["labels"])

    def tell(changed: AbstractSet[str] = frozenset()) -> None:
        session.saver.drawn()
        for case in changed:
            session.masks_changed(case, list(range(session.cases.depth(case))))
        session.state_changed()

    @router.post("/api/labels")
    def add_label(message: NewLabel) -> Label:
        """Add a label with the lowest unused value."""
        label = session.labels.add(message.name, message.color)
        tell()
        return label

    @router.patch("/api/labels/{value}")
    def change_label(value: int, message: LabelChange) -> Label:
        """Rename or recolour a label."""
        label = session.labels.change(value, message.name, message.color)
        tell()
        return label

    @router.delete("/api/labels/{value}", response_model=list[Label], responses={409: {"model": LabelInUse}})
    def delete_label(value: int, confirm: bool = False, client: Client = "") -> list[Label] | JSONResponse:
        """Delete a label and its voxels; one that is drawn somewhere only with confirm=true."""
        use = session.labels.use(value)
        if use.slices and not confirm:
            what = f"the label is drawn in {pluralize(use.slices, 'slice')} ({pluralize(use.voxels, 'voxel')})"
            refused = LabelInUse(what, "confirm to delete it there, too; this can be undone", use.voxels, use.slices)
            return JSONResponse(asdict(refused), status_code=409)
        tell(session.labels.delete(value, client, session.annotator))
        return session.labels.all()

    @router.post("/api/labels/undo")
    def undo_label_change(client: Client = "") -> list[Label]:
        """Undo the last change of a label."""
        tell(session.labels.undo(client, session.annotator))
        return session.labels.all()

    return router
