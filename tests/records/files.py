"""Files that commit cb68f7c wrote, of small runs on tiny scans; their folder was /data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FORMAT_0 = Path(__file__).parent / "fixtures" / "format_0"


def old_file(name: str, **change: object) -> dict[str, Any]:
    """The content of one of them, some of its values changed."""
    return {**json.loads((FORMAT_0 / f"{name}.json").read_text()), **change}
