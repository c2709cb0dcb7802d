"""Build the site: `python -m docs.site.build`, or `make docs`. A broken link or anchor is an error."""

from __future__ import annotations

import sys
from pathlib import Path

from docs.site.stage import ROOT, stage
from sphinx.cmd.build import main as sphinx

OUT = ROOT / "build" / "site"


def build(out: Path = OUT) -> int:
    """Build the site into `out`/html; returns Sphinx's exit code."""
    stage(out / "source")
    here = str(Path(__file__).parent)
    strict = ["--fail-on-warning", "--keep-going", "--quiet", "--fresh-env"]
    code = sphinx(["-b", "html", "-c", here, *strict, str(out / "source"), str(out / "html")])
    if code == 0:
        print(out / "html" / "index.html")
    return code


if __name__ == "__main__":
    sys.exit(build())
