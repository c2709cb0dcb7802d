from __future__ import annotations

import re
from xml.etree import ElementTree

from frugalseg.evaluation.charts import draw_histogram, draw_line_chart


def test_charts_are_svg_in_the_pages_colour_without_links_outside():
    for svg in (
        draw_histogram([0.2, 0.9, 0.95], "liver <i>"),
        draw_line_chart({"loss": ([1, 2], [3.0, 1.0])}, "loss & more"),
    ):
        ElementTree.fromstring(svg)
        assert "currentColor" in svg
        assert "#010203" not in svg
        assert "<i>" not in svg
        assert not re.search(r"(href|src)=\"http", svg)


def test_two_charts_on_a_page_share_no_ids():
    ids = [set(re.findall(r' id="([^"]+)"', draw_line_chart({"loss": ([1, 2], [2, 1])}, title))) for title in "ab"]
    assert ids[0]
    assert not ids[0] & ids[1]
