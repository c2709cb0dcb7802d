"""Sessions of the server for tests: tiny scans, FastAPI's test client, and real processes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from fastapi.testclient import TestClient

from frugalseg.annotation.app import make_app
from frugalseg.annotation.imports import MaskImport, name_labels
from frugalseg.annotation.launcher import Launcher
from frugalseg.annotation.place import Place
from frugalseg.annotation.security import AccessRules
from frugalseg.annotation.serve import find_references
from frugalseg.annotation.session import Session
from frugalseg.imaging.find import find_dataset
from frugalseg.options import AnnotateOptions

MARK = {"X-Frugalseg": "1", "X-Client": "tab-1"}


@contextmanager
def open_session(
    images: Path, out: Path, start: bool = True, launcher: Launcher | None = None, **options
) -> Iterator[Session]:
    """A session without its server; with `start`, its threads run."""
    given = AnnotateOptions(**{"images": images, "out": out, "target": ["liver=6", "spleen=1"], **options})
    paths, masks = find_dataset(images, given.labels or given.masks)
    references = {} if given.references is None else find_references(given.references, paths)
    session = Session(given, images, paths, references, Place(out), "tester", launcher)
    name_labels(session)
    if start:
        session.start()
    if given.labels or given.masks:
        MaskImport(session, masks).run()
    try:
        yield session
    finally:
        if start:
            session.stop()


@contextmanager
def open_client(session: Session, rules: AccessRules | None = None) -> Iterator[TestClient]:
    """A client that speaks to the session as the page does."""
    app = make_app(session, rules or AccessRules())
    client = TestClient(app, base_url="http://127.0.0.1:8765", headers=MARK, follow_redirects=False)
    yield client


def put(client: TestClient, case: str, z: int, mask: np.ndarray, version: int, tool: str = "brush", **headers):
    """Draw a slice."""
    return client.put(
        f"/api/cases/{case}/slices/{z}/mask",
        content=np.ascontiguousarray(mask, dtype=np.uint8).tobytes(),
        headers={"If-Match": f'"{version}"', "X-Tool": tool, "X-Seconds": "1.5", **headers},
    )


def read_mask(client: TestClient, case: str, z: int, shape: tuple[int, int]) -> np.ndarray:
    """A slice as the page reads it."""
    answer = client.get(f"/api/cases/{case}/slices/{z}/mask")
    assert answer.status_code == 200
    return np.frombuffer(answer.content, np.uint8).reshape(shape)


def disc(shape: tuple[int, int], value: int = 6, radius: float = 0.3) -> np.ndarray:
    """A disc of a label in the middle of a slice."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    inside = ((rows / shape[0] - 0.5) ** 2 + (columns / shape[1] - 0.5) ** 2) < radius**2
    return inside.astype(np.uint8) * np.uint8(value)


def wait_for(done, seconds: float = 120.0):
    """The first true result of a function that is called again and again."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if result := done():
            return result
        time.sleep(0.1)
    raise AssertionError("it did not happen in time")


@contextmanager
def serve(*arguments: object, end: int = signal.SIGTERM) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A real server in a process of its own; yields its address, and ends it by a signal."""
    command = [sys.executable, "-m", "frugalseg", "annotate", *map(str, arguments), "--port", "0", "--no-browser"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, start_new_session=True
    )
    try:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if found := re.match(r"open (http://\S+)", line):
                break
        else:
            raise AssertionError("".join(lines))
        yield found[1], process
    finally:
        if process.poll() is None:
            process.send_signal(end)
        process.wait(60)
        process.stdout.close()
