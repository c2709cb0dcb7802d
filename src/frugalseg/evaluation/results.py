"""The files of an evaluation: cases.csv, cases.json, report.html, and summary.json, written last of all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from frugalseg.engine.files import atomic_write, check_out
from frugalseg.engine.lock import is_in_use, lock_folder
from frugalseg.errors import RunError, disk_errors
from frugalseg.evaluation.case_row import CaseRow
from frugalseg.evaluation.policy import policy_line
from frugalseg.records.record import finite_or_none
from frugalseg.records.summary import CasesRecord, SummaryRecord

SUMMARY, REPORT = "summary.json", "report.html"


@contextmanager
def claimed(out: Path, overwrite: bool) -> Iterator[None]:
    """Make the folder, or make sure that it may be written into, and keep other processes out of it meanwhile.

    With `overwrite` an older summary.json is removed at once, so that a killed evaluation never looks finished.

    Raises:
        RunError: it is a file, it holds something and `overwrite` is not given, or another process works there.
        DiskError: it cannot be made.
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


def write_cases(out: Path, records: Sequence[CaseRow], summary: SummaryRecord) -> None:
    """Write cases.csv and cases.json; the policy and the tolerance stand in both."""
    rows = [record.columns() for record in records]
    table = pd.DataFrame(rows)
    table["tolerance_mm"] = summary.tolerance_mm
    table["empty_mask_policy"] = policy_line()
    with atomic_write(out / "cases.csv", "w") as file:
        table.to_csv(file, index=False)
    cases = CasesRecord(
        tolerance_mm=summary.tolerance_mm,
        empty_mask_policy=summary.empty_mask_policy,
        targets=summary.targets,
        metrics=summary.metrics,
        cases=tuple(
            {name: finite_or_none(v) if isinstance(v, float) else v for name, v in row.items()} for row in rows
        ),
    )
    cases.write(out / "cases.json")


def write_summary(out: Path, summary: SummaryRecord, report: str | None) -> None:
    """Write report.html, where there is one, then summary.json: where that is, the evaluation is whole."""
    if report is not None:
        with atomic_write(out / REPORT, "w") as file:
            file.write(report)
    summary.write(out / SUMMARY)


def _plain(value: str | int | float) -> str | int | float | None:
    return finite_or_none(value) if isinstance(value, float) else value
