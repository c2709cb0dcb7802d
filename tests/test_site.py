"""The site contains every page, its links lead somewhere, and its references are those of the program."""

from __future__ import annotations

from dataclasses import fields

import pytest
from docs.site.commands import format_page
from docs.site.pages import SECTIONS
from docs.site.stage import DOCS, MOVED, stage

import frugalseg
from frugalseg.commands.table import COMMANDS, to_flag

GENERATED = {"reference/commands/index", "reference/python"}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    out = tmp_path_factory.mktemp("site") / "source"
    stage(out)
    return out


def test_every_page_is_in_the_navigation_and_every_entry_is_a_page():
    there = {path.relative_to(DOCS).with_suffix("").as_posix() for path in DOCS.rglob("*.md")}
    moved = {place.removesuffix(".md") for place in MOVED.values()} - {"index"}
    listed = [
        f"{folder}/{page}"
        for folder, section in SECTIONS.items()
        for pages in (section.pages, *section.groups.values())
        for page in pages
    ]
    decisions = {page for page in there if page.startswith("explanation/decisions/0")}
    assert sorted(listed) == sorted((there - decisions) | moved | GENERATED)


def test_the_front_page_is_the_readme_with_links_of_the_site(source):
    front = (source / "index.md").read_text(encoding="utf-8")
    assert "](how-to/recipe.md)" in front
    assert "](explanation/contributing.md)" in front
    assert "](how-to/index.md)" in front
    assert "](docs/" not in front


def test_a_page_links_back_to_the_readme(source):
    assert "](../reference/glossary.md)" in (source / "explanation" / "contributing.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_s_page_lists_each_option_once(name):
    page = format_page(name, COMMANDS[name])
    listed = [line.split()[1] for line in page.splitlines() if line.startswith("```{option}")]
    assert sorted(listed) == sorted(to_flag(field.name) for field in fields(COMMANDS[name].options))


def test_the_python_reference_lists_what_is_public(source):
    page = (source / "reference" / "python.md").read_text(encoding="utf-8")
    for name in frugalseg.__all__:
        assert name.startswith("_") or f":: frugalseg.{name}\n" in page, name
    assert ":: frugalseg.options.PrepareOptions\n" in page
    assert ":: frugalseg.errors.ScanError\n" in page


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")  # of Sphinx's extensions
def test_the_site_is_built_and_a_broken_link_is_refused(tmp_path, monkeypatch):
    pytest.importorskip("pydata_sphinx_theme", reason="needs frugalseg[docs]")
    from docs.site import build

    assert build.build(tmp_path) == 0
    html = (tmp_path / "html" / "reference" / "commands" / "finetune.html").read_text(encoding="utf-8")
    assert 'id="cmdoption-frugalseg-finetune-budget"' in html
    pages = list((tmp_path / "html").rglob("*.html"))
    assert len(pages) > 60
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert '<script src="http' not in text
        assert '<link rel="stylesheet" href="http' not in text

    def stage_broken(out):
        stage(out)
        (out / "how-to" / "recipe.md").open("a").write("[gone](own-scans.md#no-such-heading)\n")

    monkeypatch.setattr(build, "stage", stage_broken)
    assert build.build(tmp_path) != 0
