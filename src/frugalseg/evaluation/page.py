"""What all reports have in common: one HTML file that needs no network, no other file and no script to be read."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

from frugalseg.text import format_number, pluralize


def page_environment() -> Environment:
    """Where the templates of reports are found, by their path in the package; they extend `evaluation/page.html.j2`.

    A name that is not given is an error, and every text is escaped. Filters: `format_number`, `pluralize` (see `text`).
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.loader = PackageLoader("frugalseg", "")
    environment.filters |= {"format_number": format_number, "pluralize": pluralize}
    return environment
