"""calibration.json: how far masks of `propagate` may be trusted, learned from scans with complete masks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from frugalseg.errors import FrugalsegError, RunError
from frugalseg.records.confidence import OrganCalibration
from frugalseg.records.record import Record

CALIBRATION_FILE = "calibration.json"


@dataclass(frozen=True, kw_only=True)
class PropagationCalibration(Record):
    """Calibration of propagated masks.

    Attributes:
        version: version of frugalseg.
        signature: of the promptable model that propagated.
        settings: the options that change the masks; with others the calibration does not apply.
        organs: organ → its calibration; without those that no mask shows.
    """

    ERROR: ClassVar[type[FrugalsegError]] = RunError
    CURE: ClassVar[str] = "write it again with `frugalseg calibrate --propagated`"

    version: str = ""
    signature: str
    settings: Mapping[str, object]
    organs: dict[str, OrganCalibration]
