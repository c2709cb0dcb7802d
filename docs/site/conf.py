"""Sphinx's settings. Nothing is loaded from the network, when the site is built or when it is read."""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx

from frugalseg import __version__
from frugalseg.commands.help import OPTION_GROUPS

project = "frugalseg"
release = version = __version__
copyright = "the authors of frugalseg"  # noqa: A001 - Sphinx's name

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
source_suffix = {".md": "markdown"}
default_role = "code"

myst_heading_anchors = 4
highlight_language = "bash"

# The docstrings of commands list their options under the headings of --help.
napoleon_custom_sections = [(group, "params_style") for group in OPTION_GROUPS]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_default_options = {"exclude-members": "__init__, __new__"}
maximum_signature_line_length = 90
python_use_unqualified_type_names = True

html_theme = "pydata_sphinx_theme"
html_title = "frugalseg"
html_static_path = ["style.css"]
html_css_files = ["style.css"]
html_copy_source = html_show_sourcelink = html_show_copyright = False
html_theme_options = {
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "show_prev_next": True,
    "navigation_with_keys": False,
    "show_nav_level": 2,
    # The wide table of the results needs the whole page.
    "secondary_sidebar_items": {"**": ["page-toc"], "explanation/results": []},
    "footer_start": ["sphinx-version"],
    "footer_end": [],
}
copybutton_prompt_text = r"\$ "
copybutton_prompt_is_regexp = True


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", mark_code)


def mark_code(_app: Sphinx, _what: str, _name: str, _object: Any, _options: Any, lines: list[str]) -> None:
    """An indented block after a colon in a docstring is code, as it is in Markdown."""
    text = re.sub(r"(?<!:):\n\n(?= {4}\S)", "::\n\n", "\n".join(lines))
    lines[:] = text.split("\n")
