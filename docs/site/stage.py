"""Gather the pages of the site in one folder for Sphinx; those in the repository stay as GitHub shows them.

README.md becomes the front page and CONTRIBUTING.md a page of the explanation; links between pages are adapted. Each
section gets a page that lists its pages, and each command a page with its options.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from docs.site.commands import write_command_pages
from docs.site.pages import SECTIONS, Section
from docs.site.python_reference import format_python_page

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
MOVED = {
    ROOT / "README.md": "index.md",
    ROOT / "CONTRIBUTING.md": "explanation/contributing.md",
}
"""Files outside docs/ that belong to the site → their place in it."""
LINK = re.compile(r"(?<!`)(\]\()(?!\w+:|#)([^)\s#]*)")


def stage(out: Path) -> None:
    """Write all source pages of the site into `out`, which is emptied first."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    for path in _find_sources():
        target = out / _place(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".md":
            target.write_text(_adapt_links(path), encoding="utf-8")
        else:
            shutil.copy(path, target)
    write_command_pages(out / "reference" / "commands")
    (out / "reference" / "python.md").write_text(format_python_page(), encoding="utf-8")
    for folder, section in SECTIONS.items():
        page = out / folder / "index.md"
        page.write_text(_format_section(section, page.parent), encoding="utf-8")
    _append_toctree(out / "index.md", [f"{folder}/index" for folder in SECTIONS])
    decisions = out / "explanation" / "decisions"
    _append_toctree(decisions / "index.md", sorted(path.stem for path in decisions.glob("0*.md")))


def _find_sources() -> Iterable[Path]:
    yield from MOVED
    for path in DOCS.rglob("*"):
        if path.is_file() and not path.is_relative_to(DOCS / "site"):
            yield path


def _place(path: Path) -> str:
    """Where a file of the repository is in the site; a folder is its list of pages."""
    if path in MOVED:
        return MOVED[path]
    place = path.relative_to(DOCS)
    return (place / "index.md" if path.is_dir() else place).as_posix()


def _adapt_links(path: Path) -> str:
    """The page with the links that lead to the same files in the site."""
    here = Path(_place(path)).parent

    def adapt(match: re.Match[str]) -> str:
        target = (path.parent / match[2]).resolve()
        if target not in MOVED and not target.is_relative_to(DOCS):
            return match[0]  # Sphinx reports it
        return match[1] + _relative(Path(_place(target)), here)

    return LINK.sub(adapt, path.read_text(encoding="utf-8"))


def _relative(target: Path, start: Path) -> str:
    up = 0
    while not target.is_relative_to(start):
        start, up = start.parent, up + 1
    return "../" * up + target.relative_to(start).as_posix()


def _format_section(section: Section, folder: Path) -> str:
    parts = [f"# {section.title}\n\n{section.purpose}\n"]
    for heading, pages in {"": section.pages, **section.groups}.items():
        if pages:
            parts += [f"## {heading}\n"] if heading else []
            parts += [_format_list(pages, folder), format_toctree(pages, caption=heading)]
    return "\n".join(parts)


def _format_list(pages: Mapping[str, str], folder: Path) -> str:
    lines = []
    for page, purpose in pages.items():
        title = (folder / f"{page}.md").read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
        lines.append(f"- [{title}]({page}.md): {purpose}")
    return "\n".join(lines) + "\n"


def _append_toctree(page: Path, pages: Iterable[str]) -> None:
    with page.open("a", encoding="utf-8") as file:
        file.write("\n" + format_toctree(pages))


def format_toctree(pages: Iterable[str], caption: str = "") -> str:
    """The directive that puts pages into the navigation."""
    options = [":hidden:", ":titlesonly:", *([f":caption: {caption}"] if caption else [])]
    return "\n".join(["```{toctree}", *options, "", *pages, "```", ""])
