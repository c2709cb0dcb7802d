"""The picture and the page of a mask."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from frugalseg.imaging.intensity import IntensityScale
from frugalseg.imaging.volume import Volume
from frugalseg.masks.preview import colour_of, draw_preview
from frugalseg.masks.statistics import measure_organs
from frugalseg.records.confidence import OrganConfidence, SliceConfidence
from frugalseg.records.predictions import CaseRecord

SCALE = IntensityScale("ct", 0, 100)
ORGANS = {"liver": (6,), "</script><b>": (1,)}


def make(shape=(20, 30, 8)):
    """Files of a preview of a scan with a box of liver; canonical axes."""
    affine = np.diag([-2.0, -1.0, 4.0, 1.0])
    scan, mask = Volume(np.full(shape, 50, np.int16), affine), Volume(np.zeros(shape, np.uint8), affine)
    mask.array[4:10, 15:28, 2:5] = 6
    confidence = OrganConfidence("probabilities", 0.9, 0.8, 0.7, SliceConfidence((2, 3, 4), (0.5, 0.9, 0.9)))
    record = CaseRecord(confidence={"liver": confidence}, statistics=measure_organs(scan, mask, ORGANS))
    return draw_preview("p1", scan, mask, ORGANS, SCALE, record)


def content_of(page: bytes):
    return json.loads(re.search(r"^const content = (.*);$", page.decode(), re.MULTILINE)[1])


def picture(url: str):
    return Image.open(io.BytesIO(base64.b64decode(url.split(",")[1])))


def test_the_page_holds_scan_mask_confidence_and_statistics() -> None:
    files = make()
    content = content_of(files["previews/p1.html"])
    assert content["slices"] == list(range(8))
    assert (content["width"], content["height"]) == (40, 30)  # pixels of 1 mm: 20 · 2 mm, 30 · 1 mm
    mask = np.asarray(picture(content["mask"]))
    tile = mask[30:60, :40]  # slice 3 of 8 in rows of three: row 1, column 0
    expected = np.zeros((30, 40), np.uint8)
    expected[15:28, 8:20] = 1
    assert np.array_equal(tile, expected)
    assert picture(content["mask"]).convert("RGBA").getpixel((10, 50)) == (*colour_of(1), 255)
    assert picture(content["mask"]).convert("RGBA").getpixel((0, 30))[3] == 0
    assert abs(int(np.asarray(picture(content["grey"]))[5, 5]) - 128) < 4
    liver, other = content["organs"]
    assert liver["by_slice"] == {"2": 0.5, "3": 0.9, "4": 0.9}
    assert liver["statistics"]["volume_ml"] == pytest.approx(6 * 13 * 3 * 8 / 1000, abs=1e-4)
    assert (other["confidence"], other["statistics"]["voxels"]) == (None, 0)


def test_the_page_needs_nothing_from_elsewhere_and_names_are_text() -> None:
    page = make()["previews/p1.html"].decode()
    assert not re.search(r"https?://|<link|src=", page)
    assert page.count("</script>") == 1


def test_the_picture_outlines_the_organ_in_its_colour() -> None:
    image = np.asarray(Image.open(io.BytesIO(make()["previews/p1.png"])))
    assert image.shape == (3 * 30, 4 * 40, 3)
    first = image[:30, :40]
    outlined = (first == colour_of(1)).all(axis=2)
    expected = np.zeros((30, 40), bool)
    expected[15:28, 8:20] = True
    expected[16:27, 9:19] = False
    assert np.array_equal(outlined, expected)


def test_long_scans_show_every_nth_slice() -> None:
    slices = content_of(make((20, 20, 500))["previews/p1.html"])["slices"]
    assert len(slices) <= 160
    assert (slices[0], slices[-1]) == (0, 499)


def test_a_browser_without_network_shows_the_slice(tmp_path) -> None:
    pytest.importorskip("playwright", reason="needs playwright, to steer a browser")
    if (chromium := shutil.which("chromium")) is None:
        pytest.skip("needs Chromium, for example Debian's package chromium")
    from playwright.sync_api import sync_playwright

    (tmp_path / "p1.html").write_bytes(make()["previews/p1.html"])
    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_context(offline=True).new_page()
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto((tmp_path / "p1.html").as_uri())
        page.wait_for_function("document.getElementById('place').textContent !== ''")
        assert page.inner_text("#place") == "Slice 3 of 0–7"  # the middle of those that show an organ
        assert page.inner_text("tbody tr:nth-child(2) td") == "</script><b>"
        colour = "(x, y) => [...document.getElementById('slice').getContext('2d').getImageData(x, y, 1, 1).data]"
        inside, outside = page.evaluate(f"[({colour})(24, 40), ({colour})(2, 2)]")
        assert len(set(outside[:3])) == 1
        assert len(set(inside[:3])) > 1
        page.focus("#slice")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowDown")
        assert page.inner_text("#place") == "Slice 1 of 0–7"
        assert len(set(page.evaluate(f"({colour})(24, 40)")[:3])) == 1
        assert not problems
        browser.close()
