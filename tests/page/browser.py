"""A browser, the server it opens, and a person who draws: what the tests of the page share."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import frugalseg

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page, Request

WEB = Path(__file__).parents[2] / "web"
BUILT = Path(frugalseg.__file__).parent / "annotation" / "page" / "index.html"
STARTS_IN_S = 120
#: Draws WebGL in software, as machines without a display must.
ARGUMENTS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]


def find_chromium() -> str:
    """The path of an installed Chromium; skips the test where something is missing, and says what."""
    pytest.importorskip("playwright", reason="needs playwright, to steer a browser")
    pytest.importorskip("fastapi", reason="needs frugalseg[annotate]")
    if not BUILT.is_file():
        pytest.skip("the page is not built: run `make web`, which needs Node")
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if (path := shutil.which(name)) is not None:
            return path
    pytest.skip("needs Chromium, for example Debian's package chromium")


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Chromium without a window."""
    path = find_chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@dataclass
class Server:
    """`frugalseg annotate` in a process of its own, which can be killed and started again on its port."""

    arguments: list[str]
    log: Path
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Where the page is."""
        return f"http://127.0.0.1:{self.port}/"

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [sys.executable, "-m", "frugalseg", "annotate", "--no-browser", "--port", str(self.port)]
        offset = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as output:
            self.process = subprocess.Popen([*command, *self.arguments], stdout=output, stderr=output)
        found = wait_for(lambda: self._announced(offset), STARTS_IN_S, "the server did not start", self.log)
        self.port = int(found)

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """Ctrl-C."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()

    def _announced(self, offset: int) -> str | None:
        assert self.process is not None
        printed = self.log.read_bytes()[offset:].decode(errors="replace")
        assert self.process.poll() is None, printed
        found = re.search(r"open http://127\.0\.0\.1:(\d+)/", printed)
        return found[1] if found else None


def wait_for(ready: Callable[[], Any], seconds: float, otherwise: str, log: Path | None = None) -> Any:
    """What `ready` returns, once it is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := ready():
            return value
        time.sleep(0.05)
    pytest.fail(otherwise + (f"\n{log.read_text(errors='replace')}" if log else ""))


@dataclass
class Person:
    """Someone who uses the page in one tab, and everything that went wrong there."""

    page: Page
    address: str
    requests: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    _grids: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.page.on("request", self._requested)
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))

    def open(self, place: str = "") -> None:
        """Open the page, at slice/case if given, and wait for the first slice."""
        self.page.goto(self.address + (f"#{place}" if place else ""))
        self.wait(lambda: self.durations("first-slice"), 60, "no slice was shown")
        self.wait(self.page.locator(".stage").is_visible, 20, "the page is not drawn")  # only now it listens to keys

    def wait(self, ready: Callable[[], Any], seconds: float, otherwise: str) -> Any:
        """As `wait_for`, while the page goes on."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if value := ready():
                return value
            self.page.wait_for_timeout(50)
        pytest.fail(f"{otherwise}\n{self.page.inner_text('body')}\n{self.problems}")

    def durations(self, what: str) -> list[float]:
        """ms that the page measured, in order."""
        found = self.page.evaluate(f"performance.getEntriesByName('frugalseg:{what}').map((entry) => entry.duration)")
        return [float(ms) for ms in found]

    def api(self, path: str) -> Any:
        """JSON that the server tells this tab."""
        return self.page.evaluate("(path) => fetch(path).then((response) => response.json())", path)

    def mask(self, case: str, z: int) -> bytes:
        """A slice's label map, as the server has it."""
        return self.read(f"/api/cases/{case}/slices/{z}/mask")

    def read(self, path: str) -> bytes:
        """What the server tells this tab, not from the browser's cache."""
        script = """async (path) => {
            const response = await fetch(path, { cache: "no-store" });
            return Array.from(new Uint8Array(await response.arrayBuffer()));
        }"""
        return bytes(self.page.evaluate(script, path))

    def leave(self) -> None:
        """Close the tab, whatever is on its way."""
        if not self.page.is_closed():
            self.page.unroute_all(behavior="ignoreErrors")
        self.page.context.close()

    @property
    def case(self) -> str:
        """The open scan."""
        return self._place()[1]

    @property
    def slice(self) -> int:
        """The slice on screen."""
        return int(self._place()[0])

    def press(self, *keys: str) -> None:
        """Press keys, one after the other."""
        for key in keys:
            self.page.keyboard.press(key)

    def go_to(self, z: int) -> None:
        """Show a slice, with the arrow keys."""
        while self.slice != z:
            before = self.slice
            up, down = ("PageUp", "PageDown") if abs(z - before) >= 10 else ("ArrowUp", "ArrowDown")
            self.press(up if z > before else down)
            self.wait(lambda before=before: self.slice != before, 20, f"slice {before} stayed")

    def at(self, column: float, row: float) -> tuple[float, float]:
        """Where a point of the slice is in the window, while the whole slice is shown."""
        columns, rows, dx, dy = self.grid()
        box = self.page.locator(".stage").bounding_box()
        assert box is not None
        zoom = 0.96 * min(box["width"] / (columns * dx), box["height"] / (rows * dy))
        x = box["x"] + box["width"] / 2 + (column - columns / 2) * dx * zoom
        return x, box["y"] + box["height"] / 2 + (row - rows / 2) * dy * zoom

    def grid(self) -> tuple[int, int, float, float]:
        """Columns, rows, and their spacing in mm; asked once a scan, so that it is known while the server is away."""
        if self.case not in self._grids:
            detail = self.api(f"/api/cases/{self.case}")
            self._grids[self.case] = (*detail["shape"][:2], *detail["spacing"][:2])
        return self._grids[self.case]  # type: ignore[no-any-return]

    def drag(self, *points: tuple[float, float], steps: int = 6) -> None:
        """Drag through points of the slice (column, row) with the left button."""
        mouse = self.page.mouse
        mouse.move(*self.at(*points[0]))
        mouse.down()
        for point in points[1:]:
            mouse.move(*self.at(*point), steps=steps)
        mouse.up()

    def click(self, column: float, row: float, button: str = "left") -> None:
        """Click a point of the slice."""
        self.page.mouse.click(*self.at(column, row), button=button)  # type: ignore[arg-type]

    def saved(self) -> None:
        """Wait until every stroke is saved, one that has just ended too: the page sees its end a few frames later."""
        self.page.evaluate("() => new Promise(done => requestAnimationFrame(() => setTimeout(done, 300)))")
        self.wait(lambda: self.save_state() == "saved", 30, "strokes were not saved")

    def save_state(self) -> str:
        """saved, saving or waiting."""
        return self.page.locator("[data-save]").get_attribute("data-save") or ""

    def button(self, name: str) -> Any:
        """The first button with this name."""
        return self.page.get_by_role("button", name=name, exact=True).first

    def _place(self) -> tuple[str, str]:
        found = re.search(r"#(\d+)/(.+)$", self.page.url)
        assert found, self.page.url
        return found[1], found[2]

    def _requested(self, request: Request) -> None:
        self.requests.append(request.url)

    def _said(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.problems.append(message.text)
