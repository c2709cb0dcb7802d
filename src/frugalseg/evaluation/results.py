"""The files of an evaluation: cases.csv, cases.json, report.html and, written last, summary.json."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from frugalseg.engine.files import atomic_write, check_out
from frugalseg.engine.lock import is_in_use, lock_folder
from frugalseg.errors import RunError, disk_errors
from frugalseg.evaluation.case_row import CaseRow
from frugalseg.evaluation.policy import format_policy
from frugalseg.records.record import finite_or_none
from frugalseg.records.summary import CasesRecord, SummaryRecord

SUMMARY, REPORT = "summary.json", "report.html"


@contextmanager
def claim_folder(out: Path, overwrite: bool) -> Iterator[None]:
    """Create the output folder and lock it against other processes while the context is open.

    With `overwrite` an older summary.json is removed first, so that a killed evaluation never looks finished.

    Raises:
        RunError: it is a file, it is not empty and `overwrite` is not given, or another process has locked it.
        DiskError: it cannot be created.
    """
    check_out(out)
    if is_in_use(out) and not overwrite:
        raise RunError(f"{out} is in use", "choose another --out, or give --overwrite")
    lock = lock_folder(out)
    try:
        with disk_errors(out):
            (out / SUMMARY).unlink(missing_ok=True)
        yield
    finally:
        lock.release()


def write_cases(out: Path, rows: Sequence[CaseRow], summary: SummaryRecord) -> None:
    """Write cases.csv and cases.json; both contain the empty-mask policy and the tolerance."""
    cases = [row.to_dict() for row in rows]
    table = pd.DataFrame(cases)
    table["tolerance_mm"] = summary.tolerance_mm
    table["empty_mask_policy"] = format_policy()
    with atomic_write(out / "cases.csv", "w") as file:
        table.to_csv(file, index=False)
    CasesRecord(
        tolerance_mm=summary.tolerance_mm,
        empty_mask_policy=summary.empty_mask_policy,
        targets=summary.targets,
        metrics=summary.metrics,
        cases=tuple({name: _to_json(value) for name, value in case.items()} for case in cases),
    ).write(out / "cases.json")


def write_summary(out: Path, summary: SummaryRecord, report: str | None) -> None:
    """Write report.html, if there is a report, then summary.json, which marks the evaluation as finished."""
    if report is not None:
        with atomic_write(out / REPORT, "w") as file:
            file.write(report)
    summary.write(out / SUMMARY)


def _to_json(value: str | int | float) -> str | int | float | None:
    return finite_or_none(value) if isinstance(value, float) else value
