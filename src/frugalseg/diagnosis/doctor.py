"""`frugalseg doctor`: what a report of an error needs, and what is broken here."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict

from frugalseg.diagnosis.folders import describe_folders, describe_weights
from frugalseg.diagnosis.machine import describe_devices, describe_memory, describe_variables
from frugalseg.diagnosis.packages import describe_extras, describe_packages, describe_program
from frugalseg.diagnosis.section import Problem, Section
from frugalseg.errors import RunError
from frugalseg.options import DoctorOptions
from frugalseg.text import align_columns, pluralize

SECTIONS: dict[str, Callable[[], Section]] = {
    "program": describe_program,
    "packages": describe_packages,
    "devices": describe_devices,
    "memory": describe_memory,
    "folders": describe_folders,
    "weights": describe_weights,
    "extras": describe_extras,
    "environment variables": describe_variables,
}
"""Heading → what it describes, in the order in which they are printed."""


def doctor(options: DoctorOptions) -> dict[str, Section]:
    """Print what this installation is and can do; returns it by section.

    Raises:
        RunError: something is broken; the message names the first problem, and all are printed.
    """
    found = {name: describe() for name, describe in SECTIONS.items()}
    problems = [problem for section in found.values() for problem in section.problems]
    print(_format_json(found, problems) if options.json else _format_text(found, problems))
    if broken := [problem for problem in problems if problem.breaks]:
        more = f" (and {pluralize(len(broken) - 1, 'other problem')}, see above)" if len(broken) > 1 else ""
        raise RunError(f"{broken[0].problem}{more}", broken[0].cure)
    return found


def _format_json(found: dict[str, Section], problems: list[Problem]) -> str:
    content = {name: section.facts for name, section in found.items()}
    return json.dumps({**content, "problems": [asdict(one) for one in problems]}, indent=2, ensure_ascii=False)


def _format_text(found: dict[str, Section], problems: list[Problem]) -> str:
    lines = []
    for name, section in found.items():
        rows = [(f"  {key}", _format_value(value)) for key, value in section.facts.items()]
        lines += [f"{name}:", align_columns(rows) if rows else "  none", ""]
    for one in problems:
        lines += [f"{'problem' if one.breaks else 'note'}: {one.problem}", f"  → {one.cure}"]
    return "\n".join(lines if problems else [*lines, "no problems found"])


def _format_value(value: object) -> str:
    return (
        {True: "yes", False: "no", None: "missing"}.get(value, str(value))
        if isinstance(value, bool | None)
        else str(value)
    )
