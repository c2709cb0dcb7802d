from __future__ import annotations

import re
import shutil

import numpy as np
import pytest

from frugalseg.evaluation import patients
from frugalseg.evaluation.evaluate import evaluate
from frugalseg.evaluation.overlays import ShownCase
from frugalseg.evaluation.patients import draw_worst_slice
from frugalseg.options import EvaluateOptions
from tests.evaluation.blobs import LIVER, SHAPE, labels, save, write_masks
from tests.evaluation.test_overlays import near, pixels

ORGANS = {"liver": (6,), "spleen": (1,)}


def shown(prediction):
    return ShownCase(None, labels(), prediction, (2.0, 2.0, 4.0), "")


def test_the_picture_is_of_the_slice_with_most_errors_of_all_organs_together():
    wrong = labels()
    wrong[3:5, 4:6, 5] = 0  # of the liver
    wrong[13:15, 5:7, 5] = 0  # of the spleen
    wrong[3:5, 4:7, 2] = 0  # more of the liver alone
    panel = draw_worst_slice(shown(wrong), ORGANS)
    assert panel.caption == "Axial slice 6 of 10: largest disagreement, 0.3 cm² over all organs"
    assert near(pixels(panel), (0xE6 / 255, 0x9F / 255, 0)).any()


def test_the_outlines_of_neighbours_are_both_drawn():
    touching = np.where(LIVER, 6, 0).astype(np.uint8)
    one = draw_worst_slice(ShownCase(None, touching, touching, (2.0, 2.0, 4.0), ""), ORGANS)
    touching[7:][LIVER[7:]] = 1
    two = draw_worst_slice(ShownCase(None, touching, touching, (2.0, 2.0, 4.0), ""), ORGANS)
    orange = (0xE6 / 255, 0x9F / 255, 0)
    assert near(pixels(two), orange).sum() > 1.1 * near(pixels(one), orange).sum()


def evaluated(root, **masks):
    write_masks(root, masks)
    for case in masks:
        save(root / "images" / f"{case}.nii.gz", np.random.default_rng(0).normal(40, 30, SHAPE).astype(np.int16))
    folders = {"predictions": root / "pred", "references": root / "ref", "images": root / "images"}
    evaluate(EvaluateOptions(**folders, out=root / "out", target=["liver=6", "spleen=1"], workers=0))
    return root / "out" / "report.html"


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    smaller = LIVER.copy()
    smaller[3:5] = False
    return evaluated(
        tmp_path_factory.mktemp("patients"),
        good=labels(),
        shifted=labels(np.roll(LIVER, 1, axis=0)),
        missed=labels(spleen=np.zeros(SHAPE, bool)),
        smaller=labels(smaller),
    )


def test_patients_are_listed_from_the_worst_with_all_their_organs(report):
    page = report.read_text()
    assert re.findall(r'<details class="patient".*?data-case="(\w+)"', page) == ["missed", "smaller", "shifted", "good"]
    first = page[page.index('data-case="missed"') : page.index('data-case="smaller"')]
    assert "Dice 0.500 on average, spleen 0.000" in first
    assert "1 organ missed" in first
    assert re.findall(r"<tr><td>(\w+)", first) == ["liver", "spleen"]
    assert len(re.findall(r'alt="\w+, all organs: ', page)) == 4


def test_only_the_worst_of_many_have_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr(patients, "MOST_PICTURES", 1)
    page = evaluated(tmp_path, good=labels(), shifted=labels(np.roll(LIVER, 1, axis=0))).read_text()
    assert re.findall(r'alt="(\w+), all organs: ', page) == ["shifted"]
    assert page.count("A picture is drawn for the worst patients only.") == 1


@pytest.mark.parametrize("width", [1200, 390])
def test_a_browser_sorts_them_without_a_network_and_the_page_fits(report, width):
    if (chromium := shutil.which("chromium")) is None:
        pytest.skip("needs Chromium, for example Debian's package chromium")
    api = pytest.importorskip("playwright.sync_api")
    problems = []
    with api.sync_playwright() as player:
        browser = player.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 900}, offline=True)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: problems.extend([request.url] if request.url.startswith("http") else []))
        page.goto(report.as_uri())

        def order():
            return page.locator("details.patient").evaluate_all("all => all.map(one => one.dataset.case)")

        assert order() == ["missed", "smaller", "shifted", "good"]
        page.get_by_role("button", name="largest volume error").click()
        assert order()[:2] == ["smaller", "missed"]
        assert page.locator("#sort-patients [aria-pressed=true]").inner_text() == "largest volume error"
        page.get_by_role("button", name="case", exact=True).click()
        assert order() == ["good", "missed", "shifted", "smaller"]
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        browser.close()
    assert not problems
