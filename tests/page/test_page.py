"""The page in a browser, on phantoms and without a promptable model: drawing, saving, and what goes wrong meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest

from tests.page.browser import Person, Server, find_chromium, open_browser, wait_for

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Route


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    find_chromium()
    with open_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("annotations")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    find_chromium()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FRUGALSEG_HOME", str(folder / "no weights"))
        server = Server(["--demo", "--phantoms", "20", "--out", str(folder / "out")], folder / "log")
        server.start()
        yield server
        server.stop()


@pytest.fixture(scope="module")
def untouched() -> Iterator[int]:
    """Numbers of phantoms on which no test has drawn yet."""
    return iter(range(20))


@pytest.fixture
def person(browser: Browser, server: Server, untouched: Iterator[int]) -> Iterator[Person]:
    person = come(browser, server, f"20/phantom_{next(untouched):02d}")
    yield person
    person.leave()


def come(browser: Browser, server: Server, place: str) -> Person:
    person = Person(browser.new_context(viewport={"width": 1280, "height": 800}).new_page(), server.address)
    person.open(place)
    return person


def pixels(person: Person) -> np.ndarray:
    """The label map of the slice on screen, rows × columns, as the server has it."""
    columns, rows, *_ = person.grid()
    return np.frombuffer(person.mask(person.case, person.slice), np.uint8).reshape(rows, columns)


# The first one: nothing is outlined yet in any scan.
def test_buttons_that_cannot_work_yet_say_what_is_missing(person: Person) -> None:
    missing = {
        "Propagate": "Outline a slice of this scan first.",
        "Refine": "This scan has no propagated or predicted mask.",
        "Train": "Outline a slice first, in any scan.",
        "Predict": "Train a model first.",
        "Accept scan": "This scan has no propagated or predicted slice.",
    }
    buttons = {name: person.page.get_by_role("button", name=name, exact=True).last for name in missing}
    assert {name: button.get_attribute("title") for name, button in buttons.items()} == missing
    assert all(button.is_disabled() for button in buttons.values())
    assert person.button("Suggest").is_enabled()
    person.press("Shift+T")
    person.wait(person.page.get_by_text("Outline a slice first, in any scan.").is_visible, 10, "the key says nothing")
    person.press("b")
    person.drag((30, 30), (60, 30))
    person.saved()
    person.wait(buttons["Train"].is_enabled, 20, "Train stays disabled")
    assert buttons["Propagate"].get_attribute("title") == "This needs the weights of a promptable model."


def test_every_tool_draws_what_it_says_and_undo_takes_it_back(person: Person) -> None:
    label = person.api("/api/state")["labels"][0]["value"]
    person.press("b")
    person.drag((30, 30), (60, 30))
    person.saved()
    stroke = pixels(person)
    assert (stroke[29:31, 31:60] == label).all()
    assert not stroke[:25].any()
    assert not stroke[36:].any()

    person.press("e")
    person.drag((45, 20), (45, 40))
    person.saved()
    assert not pixels(person)[29:31, 45].any()
    assert pixels(person)[30, 35] == label

    person.press("Control+z", "Control+z")
    person.saved()
    assert not pixels(person).any()
    person.press("Control+y")
    person.saved()
    assert (pixels(person) == stroke).all()

    person.press("p")
    for corner in [(20, 60), (50, 60), (50, 80), (20, 80)]:
        person.click(*corner)
    person.press("Enter")
    person.saved()
    polygon = pixels(person) - stroke
    assert (polygon[61:79, 21:49] == label).all()
    assert np.count_nonzero(polygon) in range(580, 620)

    person.press("e", "f")
    person.page.mouse.move(*person.at(70, 60))
    person.click(70, 60)
    assert person.page.get_by_text("not closed").is_visible()


def test_a_ring_is_filled_copied_and_interpolated(person: Person) -> None:
    label = person.api("/api/state")["labels"][0]["value"]
    person.press("b")
    corners = [(30, 30), (60, 30), (60, 60), (30, 60), (30, 30)]
    person.drag(*corners)
    person.press("f")
    person.click(45, 45)
    person.saved()
    first = person.slice
    filled = pixels(person)
    assert (filled[31:60, 31:60] == label).all()

    person.go_to(first + 1)
    person.press("c")
    person.saved()
    assert (pixels(person) == filled).all()
    person.press("Delete")
    person.saved()
    source = person.api(f"/api/cases/{person.case}")["slices"][first + 1]["source"]
    assert source is None, "a cleared slice is unlabelled, not an example of an empty one"

    person.go_to(first + 4)
    person.press("b")
    person.drag(*[(column + 12, row) for column, row in corners])
    person.press("f")
    person.click(57, 45)
    person.saved()
    person.press("i")
    person.saved()
    person.go_to(first + 2)
    half = pixels(person)
    assert (half[35:55, 42:60] == label).all(), "halfway, the square has moved halfway"
    assert not half[:, :30].any()
    person.press("Control+z")
    person.saved()
    assert not pixels(person).any(), "one undo takes back all interpolated slices"


def test_what_is_drawn_while_the_server_is_dead_is_saved_when_it_is_back(
    person: Person, server: Server, folder: Path
) -> None:
    person.press("b")
    person.drag((30, 40), (50, 40))
    person.saved()
    case, z, before = person.case, person.slice, pixels(person)
    server.kill()
    person.drag((30, 60), (50, 60))
    person.wait(lambda: person.save_state() == "waiting", 20, "the page does not say that a stroke is unsaved")
    person.wait(lambda: person.page.get_by_text("The server does not answer").first.is_visible(), 20, "no banner")
    person.drag((30, 70), (50, 70))
    server.start()
    person.saved()
    after = pixels(person)
    label = after.max()
    assert (after[before > 0] == label).all()
    assert (after[[60, 70], 40] == label).all()
    person.wait(lambda: not person.page.get_by_role("alert").first.is_visible(), 20, "the banner stays")

    path = folder / "out" / f"{case}.nii.gz"
    wait_for(path.is_file, 30, "no NIfTI")
    wait_for(lambda: np.count_nonzero(nib.load(path).dataobj) == np.count_nonzero(after), 30, "the NIfTI stays behind")
    image = nib.load(next((folder / "out" / "work" / "phantoms" / "images").glob(f"{case}.*")))
    mask = nib.load(path)
    assert mask.shape == image.shape
    np.testing.assert_allclose(mask.affine, image.affine)
    upright = nib.as_closest_canonical(mask).get_fdata()[::-1, ::-1, z].T
    assert (upright == after).all(), "what was drawn lies on the same voxels of the file"


def test_a_closed_tab_loses_nothing(browser: Browser, person: Person, server: Server) -> None:
    context = person.page.context
    person.press("b")
    person.page.route("**/mask", lambda route: route.abort() if route.request.method == "PUT" else route.continue_())
    person.drag((30, 40), (50, 40))
    person.wait(lambda: person.save_state() == "waiting", 20, "nothing waits")
    place = f"{person.slice}/{person.case}"
    person.page.close()
    again = Person(context.new_page(), server.address)
    again.open(place)
    again.saved()
    assert pixels(again).any()
    assert again.page.get_by_text("from the last session").is_visible()


def test_a_full_disk_is_told_and_the_drawing_kept(person: Person) -> None:
    def full(route: Route) -> None:
        if route.request.method == "PUT":
            route.fulfill(status=507, json={"message": "the disk is full", "hint": "free some space"})
        else:
            route.continue_()

    person.page.route("**/mask", full)
    person.press("b")
    person.drag((30, 40), (50, 40))
    person.wait(lambda: person.page.get_by_text("Free some space").first.is_visible(), 20, "the page does not say so")
    assert not pixels(person).any()
    person.page.unroute("**/mask")
    person.saved()
    assert pixels(person).any()


def test_the_second_of_two_tabs_is_told_and_overwrites_nothing(
    browser: Browser, person: Person, server: Server
) -> None:
    other = come(browser, server, f"{person.slice}/{person.case}")
    other.page.route("**/api/events*", lambda route: route.abort())
    other.page.reload()
    other.wait(lambda: other.durations("first-slice"), 30, "no slice")
    person.press("b")
    person.drag((30, 40), (50, 40))
    person.saved()
    theirs = pixels(person)
    other.press("b")
    other.drag((30, 60), (50, 60))
    dialog = other.page.get_by_role("dialog")
    other.wait(dialog.is_visible, 20, "no conflict was told")
    assert (pixels(person) == theirs).all()
    other.button("Bring back my drawing").click()
    other.saved()
    mine = pixels(other)
    assert mine[60, 40] > 0
    assert mine[40, 40] == 0, "only when asked is theirs replaced"
    other.leave()


def test_masks_of_another_tab_appear(browser: Browser, person: Person, server: Server) -> None:
    other = come(browser, server, f"{person.slice}/{person.case}")
    person.press("b")
    person.drag((30, 40), (50, 40))
    person.saved()
    other.wait(
        lambda: other.page.get_by_text("Outlined", exact=True).first.is_visible(), 20, "the other tab stays behind"
    )
    other.press("b")
    other.drag((30, 60), (50, 60))
    other.saved()
    assert (pixels(other)[[40, 60], 40] > 0).all(), "it was drawn on top of what the first tab drew"
    other.leave()


def test_a_label_is_added_renamed_deleted_and_brought_back(person: Person) -> None:
    page = person.page
    person.button("Add a label").click()
    page.get_by_role("textbox", name="Name").fill("what?")
    page.keyboard.press("Enter")
    person.wait(page.locator(".notice.bad").first.is_visible, 20, "a refused name is not told")
    page.get_by_role("textbox", name="Name").fill("kidney")
    page.keyboard.press("Enter")
    person.wait(lambda: len(person.api("/api/state")["labels"]) == 2, 20, "no new label")
    person.wait(lambda: page.locator(".label[aria-pressed=true]").inner_text().startswith("kidney"), 20, "not selected")
    person.press("b")
    page.locator(".stage").focus()
    person.drag((30, 40), (50, 40))
    person.saved()
    value = pixels(person)[40, 40]

    person.button("Rename or recolour kidney").click()
    page.get_by_role("textbox", name="Name").fill("spleen")
    page.keyboard.press("Enter")
    person.wait(lambda: "spleen" in names_of_labels(person), 20, "not renamed")
    page.locator(".notice").filter(has_text="Changed the label spleen").get_by_role("button", name="Undo").click()
    person.wait(lambda: "kidney" in names_of_labels(person), 20, "the old name does not come back")
    assert pixels(person)[40, 40] == value
    person.button("Rename or recolour kidney").click()
    person.button("Delete").click()
    person.wait(page.get_by_text("become background").is_visible, 20, "deleting was not asked about")
    assert pixels(person)[40, 40] == value
    person.button("Delete").click()
    person.wait(lambda: not pixels(person).any(), 20, "the label's voxels are still there")
    page.locator(".notice").filter(has_text="Deleted").get_by_role("button", name="Undo").click()
    person.wait(lambda: pixels(person)[40, 40] == value, 20, "the label does not come back")


def names_of_labels(person: Person) -> list[str]:
    return [label["name"] for label in person.api("/api/state")["labels"]]


def test_no_string_of_a_user_becomes_html(person: Person) -> None:
    hostile = '<img src=x onerror="window.broken = 1">'

    def answer(route: Route) -> None:
        state = route.fetch().json()
        state["folder"] = state["labels"][0]["name"] = state["meter"]["message"] = hostile
        state["suggestion"] = {"case": state["cases"][-1]["id"], "slice": 3, "reason": hostile}
        state["cases"][0]["message"] = hostile
        route.fulfill(json=state)

    person.page.route("**/api/state", answer)
    person.page.reload()
    person.wait(lambda: person.page.get_by_text(hostile).count() >= 3, 20, "the strings are not shown as they are")
    assert person.page.locator("img").count() == 0
    assert person.page.evaluate("window.broken") is None


def test_everything_has_a_name_and_a_key(person: Person) -> None:
    page = person.page
    assert page.get_by_text("Box and points need a promptable model").is_visible()
    assert person.button("Box").is_disabled()
    for button in page.get_by_role("button").all():
        assert (button.get_attribute("aria-label") or button.inner_text()).strip(), button.evaluate(
            "(b) => b.outerHTML"
        )
    person.press("?")
    person.wait(page.get_by_role("dialog").is_visible, 10, "no list of keys")
    page.keyboard.press("Escape")
    person.wait(lambda: page.get_by_role("dialog").count() == 0, 10, "the dialog stays open")
    theme = page.locator("html").get_attribute("data-theme")
    person.press("Shift+D")
    assert page.locator("html").get_attribute("data-theme") != theme
    order = []
    for _ in range(12):
        page.keyboard.press("Tab")
        order.append(
            page.evaluate("document.activeElement.getAttribute('aria-label') || document.activeElement.innerText")
        )
    assert len(set(order)) > 8, f"the focus goes through the page: {order}"


def test_accepting_goes_on_to_the_next_scan(person: Person) -> None:
    case, z = person.case, person.slice
    person.press("a")
    person.wait(lambda: person.api(f"/api/cases/{case}")["slices"][z]["source"] == "reviewed", 20, "not accepted")
    person.press("Shift+ArrowDown")
    person.wait(lambda: person.case != case, 20, "the other scan does not open")
    assert person.durations("next-scan")


def test_a_hundred_quick_strokes_are_all_saved(person: Person) -> None:
    person.press("b")
    person.page.get_by_label("Diameter").fill("1")
    person.page.locator(".stage").focus()
    dots = [(20 + 3 * (k % 10) + 0.5, 20 + 3 * (k // 10) + 0.5) for k in range(100)]
    for dot in dots:
        person.page.mouse.move(*person.at(*dot))
        person.page.mouse.down()
        person.page.mouse.up()
    person.saved()
    drawn = pixels(person)
    assert all(drawn[int(row), int(column)] > 0 for column, row in dots)
    assert np.count_nonzero(drawn) == 100
    assert len(person.durations("save")) == 100, "each stroke is in the server's log"


def test_a_stroke_that_another_slice_interrupts_is_kept(person: Person) -> None:
    z = person.slice
    person.press("b")
    person.page.mouse.move(*person.at(30, 40))
    person.page.mouse.down()
    person.page.mouse.move(*person.at(50, 40), steps=5)
    person.page.keyboard.press("ArrowUp")
    person.wait(lambda: person.slice == z + 1, 20, "the slice stays")
    person.page.mouse.up()
    person.saved()
    assert not pixels(person).any()
    person.go_to(z)
    assert pixels(person)[40, 40] > 0


def test_an_unreadable_scan_is_told_and_the_next_one_opened(browser: Browser, server: Server) -> None:
    page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()

    def answer(route: Route) -> None:
        if route.request.url.endswith("phantom_19"):
            route.fulfill(status=422, json={"message": "the file is damaged", "hint": "copy it again"})
        else:
            route.continue_()

    page.route("**/api/cases/*", answer)
    person = Person(page, server.address)
    person.open("20/phantom_19")
    assert person.case != "phantom_19"
    assert page.get_by_text("The file is damaged").is_visible()
    person.leave()


def test_a_browser_without_webgl_is_told_so_and_can_draw(browser: Browser, server: Server) -> None:
    page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
    page.add_init_script(
        "const real = HTMLCanvasElement.prototype.getContext;"
        "HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {"
        "    return kind === 'webgl2' ? null : real.call(this, kind, ...rest);"
        "};"
    )
    person = Person(page, server.address)
    person.open("22/phantom_19")
    person.press("v")
    person.wait(page.get_by_text("no WebGL 2").is_visible, 20, "the page does not say so")
    person.press("b")
    person.drag((30, 40), (50, 40))
    person.saved()
    assert pixels(person)[40, 40] > 0
    person.leave()


def test_nothing_comes_from_elsewhere_and_no_policy_is_violated(person: Person) -> None:
    """Also with the other planes, whose code is another program's."""
    person.press("v")
    person.wait(lambda: person.page.get_by_text("Loading the volume").count() == 0, 60, "no planes")
    assert person.page.get_by_text("cannot be shown").count() == 0
    z = person.slice
    planes = person.page.locator(".planes canvas").bounding_box()
    assert planes is not None
    for share, moved in ((0.08, lambda: person.slice > z), (0.28, lambda: person.slice < z)):
        person.page.mouse.click(planes["x"] + 0.5 * planes["width"], planes["y"] + share * planes["height"])
        person.wait(moved, 20, f"a click at {share} of the height, in the coronal plane, does not go to its slice")
    assert [url for url in person.requests if not url.startswith((person.address, "data:", "blob:"))] == []
    assert person.problems == []
    assert "Niivue" in person.read("/assets/licenses.txt").decode()


def test_the_policy_forbids_what_the_page_does_not_need(person: Person) -> None:
    """Inline scripts and styles, workers and other addresses: each is refused by the browser."""
    page = person.page
    page.evaluate("""() => {
        window.refused = [];
        document.addEventListener("securitypolicyviolation", (event) => window.refused.push(event.effectiveDirective));
        const add = (tag, content) => document.body.append(Object.assign(document.createElement(tag), content));
        add("script", { textContent: "window.broken = 1" });
        add("style", { textContent: "body { display: none }" });
        add("img", { src: "https://example.org/x.png" });
        fetch("https://example.org").catch(() => undefined);
        try { new Worker(URL.createObjectURL(new Blob([""]))); } catch { }
    }""")
    wanted = {"script-src-elem", "style-src-elem", "img-src", "connect-src", "worker-src"}
    person.wait(lambda: wanted <= set(page.evaluate("window.refused")), 20, "something was allowed")
    assert page.evaluate("window.broken") is None
    assert page.locator("body").is_visible()


def test_the_page_about_the_api_has_its_style(person: Person) -> None:
    person.page.goto(f"{person.address}docs-api")
    assert person.page.locator("td").first.evaluate("(cell) => getComputedStyle(cell).verticalAlign") == "top"


# The last one: its model masks every phantom.
def test_a_trained_model_s_masks_appear_the_least_certain_first(person: Person) -> None:
    page = person.page
    case = person.case
    outline_liver(person)
    person.press("Shift+ArrowDown")
    person.wait(lambda: person.case != case, 20, "the next scan does not open")
    person.go_to(20)
    outline_liver(person)
    person.press("Shift+T")
    person.wait(lambda: page.get_by_role("dialog").get_by_label("Training steps").is_visible(), 20, "no plan is shown")
    page.get_by_label("Slice size").fill("64")
    page.get_by_label("Training steps").fill("10")
    page.get_by_role("dialog").get_by_role("button", name="Train", exact=True).click()
    row = page.locator("[data-job=train]").first
    person.wait(lambda: row.get_attribute("data-state") == "running", 60, "the job does not run")
    person.wait(lambda: row.get_attribute("data-state") in ("done", "failed"), 300, "the job does not end")
    assert row.get_attribute("data-state") == "done", row.inner_text()
    person.wait(lambda: page.locator(".case .state.predicted").count() > 0, 20, "no predicted scan in the list")
    cases = sorted(person.api("/api/state")["cases"], key=lambda case: case["rank"])
    assert [name.inner_text() for name in page.locator(".case .name").all()] == [case["id"] for case in cases]
    certain = [case["confidence"] for case in cases if case["confidence"] is not None]
    assert certain == sorted(certain)


def outline_liver(person: Person) -> None:
    """Click a polygon round the reference's largest extent in every fifth row."""
    columns, rows, *_ = person.grid()
    path = f"/api/references/{person.case}/slices/{person.slice}/mask"
    liver = np.frombuffer(person.read(path), np.uint8).reshape(rows, columns) > 0
    filled = np.flatnonzero(liver.any(axis=1))[::5]
    left = [(float(np.flatnonzero(liver[row])[0]), row + 0.5) for row in filled]
    right = [(float(np.flatnonzero(liver[row])[-1] + 1), row + 0.5) for row in filled]
    person.press("p")
    for corner in left + right[::-1]:
        person.click(*corner)
    person.press("Enter")
    person.saved()
    drawn = pixels(person) > 0
    assert 2 * np.count_nonzero(drawn & liver) > 0.8 * (np.count_nonzero(drawn) + np.count_nonzero(liver))
