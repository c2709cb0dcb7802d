"""All cases, by group. A case imports what it measures when it is built, since another checkout may not have it."""

from __future__ import annotations

from cases import data, gpu, masks, program, promptable, training
from measure import Case

GROUPS: dict[str, list[Case]] = {
    "data": data.CASES,
    "training": training.CASES,
    "masks": masks.CASES,
    "promptable models": promptable.CASES,
    "program": program.CASES,
    "GPU": gpu.CASES,
}
