"""What every report must offer to people who read with a keyboard, a screen reader or a phone."""

from __future__ import annotations

from html.parser import HTMLParser
from itertools import pairwise


class _Elements(HTMLParser):
    """The start tags of a page in order, and the text of each SVG's title."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def assert_accessible(html: str) -> None:
    """Headings without a gap, scroll areas that the keyboard reaches and that have a name, charts with a title,
    headers that say what they head, and a page that fits a phone."""
    elements = _Elements(html).found
    levels = [int(tag[1]) for tag, _ in elements if len(tag) == 2 and tag[0] == "h" and tag[1].isdigit()]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels)), levels
    areas = [attributes for tag, attributes in elements if tag == "div" and attributes.get("class") == "scroll"]
    assert areas
    assert all(area.get("tabindex") == "0" and area.get("role") == "region" for area in areas)
    assert all(area.get("aria-label") for area in areas)
    after = [following for (tag, _), (following, _) in pairwise(elements) if tag == "svg"]
    assert all(following == "title" for following in after), after
    assert all(attributes.get("role") == "img" for tag, attributes in elements if tag == "svg")
    assert all(attributes.get("scope") for tag, attributes in elements if tag == "th")
    assert all(attributes.get("alt") for tag, attributes in elements if tag == "img")
    assert any(attributes.get("name") == "viewport" for tag, attributes in elements if tag == "meta")
    assert "For research use only" in html
