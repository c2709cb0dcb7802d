"""Makes the pictures of docs/tutorial/annotate.md, on phantoms: python -m tests.page.screenshots docs/tutorial/images.

Needs what the tests of the page need, and LiteMedSAM's weights.
"""

from __future__ import annotations

import sys
import tempfile
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from tests.page.browser import Person, Server, open_browser

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work, open_browser() as browser:
        server = Server(["--demo", "--phantoms", "9", "--out", f"{work}/phantoms-annotations"], Path(work) / "log")
        server.start()
        try:
            person = come(browser, server)
            outline(person, folder)
            propagate(person, folder)
            review(person, folder)
        finally:
            server.stop()


def come(browser: Browser, server: Server) -> Person:
    page = browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme="dark").new_page()
    person = Person(page, server.address)
    person.open()
    return person


def outline(person: Person, folder: Path) -> None:
    """A box round the liver, and the model's mask."""
    columns, rows, *_ = person.grid()
    reference = person.read(f"/api/references/{person.case}/slices/{person.slice}/mask")
    liver = person.api("/api/state")["labels"][0]["value"]
    found = np.nonzero(np.frombuffer(reference, np.uint8).reshape(rows, columns) == liver)
    (top, left), (bottom, right) = (each.min() - 1 for each in found), (each.max() + 2 for each in found)
    person.press("x")
    person.drag((left, top), (right, bottom))
    person.wait(lambda: person.durations("prompt"), 180, "the model does not answer")
    person.saved()
    person.page.wait_for_timeout(800)
    save(person, folder / "annotate-outline.png")


def propagate(person: Person, folder: Path) -> None:
    """The strip while the mask goes through the scan."""
    person.button("Propagate").click()
    row = person.page.locator("[data-job=propagate]").first
    person.wait(lambda: row.get_attribute("data-state") == "done", 600, "the job does not end")
    person.page.wait_for_timeout(800)
    save(person, folder / "annotate-propagated.png")


def review(person: Person, folder: Path) -> None:
    """The least certain slice with a mask, with the other planes and 3D, in the light theme."""
    slices = person.api(f"/api/cases/{person.case}")["slices"]
    doubtful = [entry for entry in slices if entry["review"] and entry["labels"]]
    person.go_to(min(doubtful, key=lambda entry: entry["confidence"])["slice"])
    person.press("Shift+D", "v")
    person.wait(lambda: person.page.get_by_text("Loading the volume").count() == 0, 60, "no planes")
    person.page.wait_for_timeout(3000)
    save(person, folder / "annotate-review.png")


def save(person: Person, path: Path) -> None:
    """A screenshot with few colours, so that it is small."""
    picture = Image.open(BytesIO(person.page.screenshot())).convert("RGB")
    # Median cut, the default, would merge the few pixels of the legend's colours.
    few = picture.quantize(256, method=Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE)
    few.save(path, optimize=True)
    print(path, path.stat().st_size // 1024, "kB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
