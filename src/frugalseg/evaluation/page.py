"""The environment of all report templates; a report is one HTML file, readable without network or scripts."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

from frugalseg.text import format_number, pluralize


def make_page_environment() -> Environment:
    """The jinja environment of reports: templates by their path in the package, all extending
    `evaluation/page.html.j2`.

    An undefined name is an error, and all text is escaped. Filters: `format_number`, `pluralize` (see `text`).
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.loader = PackageLoader("frugalseg", "")
    environment.filters |= {"format_number": format_number, "pluralize": pluralize}
    return environment
