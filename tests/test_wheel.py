"""What `pip install frugalseg` brings: every file that the program reads, and a description with absolute links."""

from __future__ import annotations

import re
import zipfile
from email import message_from_string
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from frugalseg._version import __version__
from tests.wheel import ROOT, build_wheel, run_unpacked

SOURCE = ROOT / "src" / "frugalseg"
PAGE = SOURCE / "annotation" / "page"
HOME = "https://github.com/frugalseg/frugalseg"
RAW = "https://raw.githubusercontent.com/frugalseg/frugalseg/main/"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    with zipfile.ZipFile(build_wheel(tmp_path_factory.mktemp("wheel"))) as archive:
        yield archive


@pytest.fixture(scope="module")
def unpacked(wheel, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site-packages")
    wheel.extractall(folder)
    return folder


@pytest.fixture(scope="module")
def metadata(wheel):
    return message_from_string(wheel.read(f"frugalseg-{__version__}.dist-info/METADATA").decode())


def test_it_has_every_file_of_the_package_and_nothing_else(wheel):
    """Data too: templates, tables, plans, py.typed, and the page of `annotate` where it is built."""
    there = {path.relative_to(SOURCE.parent).as_posix() for path in SOURCE.rglob("*") if path.is_file()}
    expected = {name for name in there if "__pycache__" not in name}
    assert {"frugalseg/py.typed", "frugalseg/studies/shipped_plans/folds/btcv-0.json"} <= expected
    packed = {name for name in wheel.namelist() if not name.startswith(f"frugalseg-{__version__}.dist-info/")}
    assert packed == expected


def test_it_has_the_licence_and_the_command(wheel):
    info = f"frugalseg-{__version__}.dist-info"
    assert wheel.read(f"{info}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    assert "frugalseg = frugalseg.cli:main" in wheel.read(f"{info}/entry_points.txt").decode()


@pytest.mark.skipif(not PAGE.is_dir(), reason="the page of annotate is not built (make web)")
def test_it_has_the_page_of_annotate(wheel):
    page = wheel.read("frugalseg/annotation/page/index.html").decode()
    scripts = re.findall(r'src="\.?/?(assets/[^"]+)"', page)
    assert scripts
    assert {f"frugalseg/annotation/page/{name}" for name in scripts} <= set(wheel.namelist())


def test_it_runs_without_the_checkout(unpacked):
    done = run_unpacked(unpacked, "--version")
    assert (done.returncode, done.stdout.strip()) == (0, f"frugalseg {__version__}")
    done = run_unpacked(unpacked, "study", "small-sam", "--out", "out")
    assert f"{unpacked}/frugalseg/studies/shipped_plans/small-sam.yaml, line " in done.stderr


def links(metadata) -> list[str]:
    return re.findall(r"\]\(([^)]+)\)", metadata.get_payload())


def test_its_description_has_no_relative_link(metadata):
    """PyPI shows the README without the repository's other files."""
    assert metadata["Description-Content-Type"].startswith("text/markdown")
    found = links(metadata)
    assert len(found) > 30
    assert [link for link in found if urlsplit(link).scheme != "https"] == []


def test_links_of_the_description_into_the_repository_lead_somewhere(metadata):
    own = [link for link in links(metadata) if link.startswith((f"{HOME}/", RAW))]
    assert len(own) > 30
    for link in own:
        path = urlsplit(
            link.removeprefix(RAW).removeprefix(f"{HOME}/blob/main/").removeprefix(f"{HOME}/tree/main/")
        ).path
        assert (ROOT / path).exists(), link


def test_its_metadata_name_people_places_and_pythons(metadata):
    assert metadata["Author"] == "The frugalseg authors"
    assert {url.partition(", ")[2].removeprefix(HOME).partition("/")[0] for url in metadata.get_all("Project-URL")} == {
        ""
    }
    minors = [int(c.rpartition("3.")[2]) for c in metadata.get_all("Classifier") if ":: 3." in c]
    assert metadata["Requires-Python"] == f">=3.{min(minors)}"
