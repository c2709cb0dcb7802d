"""Options of `doctor`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class DoctorOptions:
    """Check this installation, and print what a report of an error needs.

    Versions, devices, threads, memory, weights, folders and optional extras, without names of people. Exits with 1 if
    something is broken.
    """

    json: bool = False
    """Print JSON for programs, instead of text."""
