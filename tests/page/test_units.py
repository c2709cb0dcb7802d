"""The page's own unit tests (masks, undo, saving, keys, contrast), run by Node."""

import shutil
import subprocess

import pytest

from tests.page.browser import WEB


def test_units_of_the_page() -> None:
    """Strict types, formatting and vitest, as `make web-test` runs them."""
    if shutil.which("npm") is None:
        pytest.skip("needs Node: the page is built and tested with it, not used with it")
    if not (WEB / "node_modules").is_dir():
        pytest.skip("the page's packages are not installed: run `make web-test`")
    for script in ("check", "test"):
        run = subprocess.run(["npm", "run", "--silent", script], cwd=WEB, capture_output=True, text=True, timeout=300)
        assert run.returncode == 0, run.stdout + run.stderr
