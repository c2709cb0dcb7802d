"""What `predict` leaves beside its masks for whoever judges them."""

from __future__ import annotations

from frugalseg.engine.forms import Form
from frugalseg.errors import PairingError

NOTE = "predictions.json"
"""File with the model, its settings, where the scans lie, and what the model knew of each."""

NOTED = Form(
    {
        "model?": str | None,
        "weights_sha256?": str,
        "settings?": dict,
        "targets?": {str: [int]},
        "images?": {str: str},
        "masks?": {str: str},
        "scans?": {str: str},
        "roles?": dict | None,
        "annotated?": {str: [int]},
        "given?": {str: {"sha256": str}},
        "failed?": {str: str},
    },
    PairingError,
    "make the masks again in another --out, or delete it: nothing is then known of what the model was trained on",
)
"""Its content; each command notes its own part of it."""
