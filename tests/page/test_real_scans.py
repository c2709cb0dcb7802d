"""A session in the browser on real CT: box, correct, propagate, review, survive a power cut; and how fast it is."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest

from tests.conftest import SHARED_DATA
from tests.page.browser import Person, Server, find_chromium, open_browser, wait_for

if TYPE_CHECKING:
    from playwright.sync_api import Browser

EXAMPLE = SHARED_DATA / "totalsegmentator_example"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    find_chromium()
    if not EXAMPLE.is_dir():
        pytest.skip(f"the real scans are not there ({SHARED_DATA})")
    with open_browser() as browser:
        yield browser


@pytest.fixture
def folder(browser: Browser, tmp_path: Path) -> Path:
    """Two CT scans with reference masks of the liver."""
    for kind in ("images", "references"):
        (tmp_path / kind).mkdir()
    take(EXAMPLE / "example_ct_sm.nii.gz", EXAMPLE / "example_seg.nii.gz", 5, tmp_path, "a_example")
    btcv = SHARED_DATA / "btcv_ct"
    take(btcv / "images" / "btcv_05.nii.gz", btcv / "labels" / "btcv_05.nii.gz", 6, tmp_path, "b_btcv")
    return tmp_path


def take(image: Path, labels: Path, liver: int, folder: Path, name: str) -> None:
    shutil.copyfile(image, folder / "images" / f"{name}.nii.gz")
    full = nib.load(labels)
    mask = (np.asarray(full.dataobj) == liver).astype(np.uint8)
    nib.save(nib.Nifti1Image(mask, full.affine), folder / "references" / f"{name}.nii.gz")


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    arguments = ["--images", str(folder / "images"), "--references", str(folder / "references")]
    server = Server([*arguments, "--target", "liver=1", "--out", str(folder / "out")], folder / "log")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def person(browser: Browser, server: Server) -> Iterator[Person]:
    page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
    person = Person(page, server.address)
    person.open()
    yield person
    person.leave()


def slice_of(path: Path, z: int) -> np.ndarray:
    """A slice of a file in display order: rows to the back, columns to the patient's left."""
    upright = nib.as_closest_canonical(nib.load(path))
    return np.asarray(upright.dataobj)[::-1, ::-1, z].T


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * np.count_nonzero(a & b) / max(1, np.count_nonzero(a) + np.count_nonzero(b)))


def job(person: Person, kind: str) -> dict[str, Any]:
    return next(job for job in person.api("/api/jobs") if job["kind"] == kind)


def test_a_liver_from_one_box(person: Person, server: Server, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if person.api("/api/state")["promptable"]["name"] is None:
        pytest.skip("needs LiteMedSAM's weights: frugalseg weights fetch litemedsam")
    page, case = person.page, person.case
    suggestion = person.api("/api/state")["suggestion"]
    person.press("g")
    person.wait(lambda: (person.case, person.slice) == (suggestion["case"], suggestion["slice"]), 20, "not there")
    z = person.slice
    reference = slice_of(folder / "references" / f"{case}.nii.gz", z) > 0

    rows, columns = np.nonzero(reference)
    box = (columns.min() - 1, rows.min() - 1), (columns.max() + 2, rows.max() + 2)
    person.press("x")
    wait_for_embedding(folder)
    last = len(person.api(f"/api/cases/{case}")["slices"]) - 1
    far = max(0, last, key=lambda k: abs(k - z))  # embedded last
    for k, slice_number in enumerate((z, z, far)):
        person.go_to(slice_number)
        person.drag(*box)
        person.wait(lambda k=k: len(person.durations("prompt")) > k, 120, "the model does not answer")
        person.saved()
    person.press("Delete")
    person.saved()
    person.go_to(z)
    outlined = grid(person, z)
    assert dice(outlined > 0, reference) > 0.7

    missed = reference & (outlined == 0)
    row, column = (int(np.mean(each)) for each in np.nonzero(missed)) if missed.any() else (rows[0], columns[0])
    person.press("b")
    person.drag((column, row), (column + 1, row + 1))
    person.saved()
    corrected = grid(person, z)
    assert corrected[row, column] == 1

    person.button("Propagate").click()
    row_of_job = page.locator("[data-job=propagate]").first
    person.wait(lambda: row_of_job.get_attribute("data-state") == "running", 60, "the job does not run")
    person.wait(lambda: row_of_job.get_attribute("data-state") == "done", 500, "the job does not end")
    assert (grid(person, z) == corrected).all(), "what a person outlined is not changed"
    detail = person.api(f"/api/cases/{case}")
    propagated = [entry["slice"] for entry in detail["slices"] if entry["source"] == "propagated"]
    assert len(propagated) > 5

    doubtful = [entry for entry in detail["slices"] if entry["review"]]
    if doubtful:
        # The page hears of them a moment after the job has ended.
        page.get_by_text(f"{len(doubtful)} to review").first.wait_for(timeout=20_000)
        person.press("n")
        least = min(doubtful, key=lambda entry: entry["confidence"] or 0)["slice"]
        person.wait(lambda: person.slice == least, 20, "N does not go to the least certain slice")
        person.press("a")
        person.wait(lambda: source(person, least) == "reviewed", 20, "not accepted")
    if len(doubtful) > 1:
        person.wait(lambda: person.slice != least, 20, "accepting does not go on to the next doubtful slice")
        corrected_too = person.slice
        person.press("b")
        person.drag((column, row), (column + 2, row))
        person.saved()
        assert source(person, corrected_too) == "outlined"

    assert person.problems == []
    before = {entry: person.mask(case, entry) for entry in range(len(detail["slices"]))}
    server.kill()
    server.start()
    person.wait(lambda: page.get_by_text("The server is back").first.is_visible(), 30, "the page does not come back")
    assert {entry: person.mask(case, entry) for entry in before} == before

    path = folder / "out" / f"{case}.nii.gz"
    image = nib.load(folder / "images" / f"{case}.nii.gz")
    wait_for(path.is_file, 30, "no NIfTI")
    wait_for(lambda: (slice_of(path, z) == corrected).all(), 30, "the file stays behind")
    assert nib.load(path).shape == image.shape
    np.testing.assert_allclose(nib.load(path).affine, image.affine, atol=1e-5)

    person.button("Compute Dice of the scan").click()
    person.wait(page.locator("[data-dice]").is_visible, 30, "no Dice")
    others = [k for k in propagated if (slice_of(folder / "references" / f"{case}.nii.gz", k) > 0).any()]
    found = [dice(grid(person, k) > 0, slice_of(folder / "references" / f"{case}.nii.gz", k) > 0) for k in others]
    with capsys.disabled():
        print(f"\nDice of the box's slice {dice(outlined > 0, reference):.3f}, of {len(others)} other slices", end=" ")
        print(
            f"{np.mean(found):.3f} (least {min(found):.3f}); the page says {page.locator('[data-dice]').inner_text()!r}"
        )
        times = [round(ms) for ms in person.durations("prompt")]
        print(f"box to mask, ms: first of the session {times[0]}, again {times[1]}, without the embedding {times[2]}")

    train(person)
    cases = sorted(person.api("/api/state")["cases"], key=lambda each: each["rank"])
    assert [name.inner_text() for name in page.locator(".case .name").all()] == [each["id"] for each in cases]
    certain = [each["confidence"] for each in cases if each["confidence"] is not None]
    assert certain == sorted(certain)
    assert certain, "no scan has a predicted mask"
    assert grid(person, z).tolist() == corrected.tolist(), "what a person outlined is not changed"


def train(person: Person) -> None:
    """Train for a few steps, and wait for the masks of the other scan."""
    page = person.page
    person.press("Shift+T")
    dialog = page.get_by_role("dialog")
    person.wait(lambda: dialog.get_by_label("Training steps").is_visible(), 20, "no plan is shown")
    page.get_by_label("Training steps").fill("20")
    dialog.get_by_role("button", name="Train", exact=True).click()
    row = page.locator("[data-job=train]").first
    person.wait(lambda: row.get_attribute("data-state") in ("done", "failed"), 900, "the training does not end")
    assert row.get_attribute("data-state") == "done", row.inner_text()
    person.wait(lambda: page.locator(".case .state.predicted").count() > 0, 20, "no predicted scan in the list")


def wait_for_embedding(folder: Path) -> None:
    """The model is loaded and the first slice embedded, as it is by the time that a person has looked at the page."""
    embeddings = folder / "out" / "work" / "embeddings"
    wait_for(lambda: any(embeddings.rglob("*.safetensors")), 120, "no slice is embedded")


def grid(person: Person, z: int) -> np.ndarray:
    columns, rows, *_ = person.grid()
    return np.frombuffer(person.mask(person.case, z), np.uint8).reshape(rows, columns)


def source(person: Person, z: int) -> str | None:
    found: str | None = person.api(f"/api/cases/{person.case}")["slices"][z]["source"]
    return found


@pytest.fixture
def large(browser: Browser, tmp_path: Path) -> Iterator[Server]:
    """Two scans of 512×512×200 real voxels."""
    from frugalseg.imaging.read import read_volume

    volume = read_volume(EXAMPLE / "dicom_ct")
    (tmp_path / "images").mkdir()
    voxels = np.concatenate([volume.array] * 10, axis=2).astype(np.int16)
    for name in ("first", "second"):
        nib.save(nib.Nifti1Image(voxels, volume.affine), tmp_path / "images" / f"{name}.nii.gz")
    out = ["--images", str(tmp_path / "images"), "--target", "liver=1", "--out", str(tmp_path / "out")]
    server = Server(out, tmp_path / "log")
    server.start()
    yield server
    server.stop()


def test_speed_on_large_scans(browser: Browser, large: Server, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is asserted about speed: the figures are printed."""
    page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
    person = Person(page, large.address)
    person.open()
    person.press("b")
    for k in range(20):
        person.go_to(person.slice + 1)
        if k % 4 == 0:
            person.drag((180, 200), (240, 260), (300, 200), steps=15)
    person.saved()
    page.wait_for_timeout(2000)
    person.press("Shift+ArrowDown")
    person.wait(lambda: person.durations("next-scan"), 60, "the next scan does not open")
    renderer = page.evaluate("""() => {
        const gl = document.createElement("canvas").getContext("webgl2");
        const about = gl?.getExtension("WEBGL_debug_renderer_info");
        return about ? gl.getParameter(about.UNMASKED_RENDERER_WEBGL) : "no WebGL";
    }""")
    with capsys.disabled():
        print(f"\n512×512×200, {renderer}; ms, median and largest:")
        for what in ("first-slice", "next-scan", "slice-change", "stroke", "save"):
            found = person.durations(what)
            print(f"  {what:14}{median(found):8.1f}{max(found):8.1f}  ({len(found)})")
    assert len(person.durations("save")) == 5
    person.leave()
