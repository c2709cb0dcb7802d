"""Weights from the Hugging Face Hub: a server on this machine stands in for it, asked by the real huggingface_hub."""

from __future__ import annotations

import hashlib
import http.server
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from frugalseg.weights.catalogue import CATALOGUE

CONTENT = bytes(range(256)) * 5000
FROM_HUB = {name: entry for name, entry in CATALOGUE.items() if entry.hub}
TINY = CATALOGUE["sam2.1-tiny"]

# The commands run in a process of their own, since huggingface_hub reads its settings when it is imported.
PROGRAM = """
import sys
from dataclasses import replace
from frugalseg.cli import main
from frugalseg.weights.catalogue import CATALOGUE
CATALOGUE["sam2.1-tiny"] = replace(CATALOGUE["sam2.1-tiny"], sha256=sys.argv[1])
sys.exit(main(sys.argv[2:]))
"""


class Hub(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT as the file of one revision; everything else is not found."""

    asked: list[tuple[str, str]]
    tokens: list[str | None]

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        if self.answer():
            self.wfile.write(CONTENT)

    def answer(self) -> bool:
        type(self).asked.append((self.command, self.path))
        type(self).tokens.append(self.headers.get("Authorization"))
        found = self.path == f"/{TINY.hub.repo}/resolve/{TINY.hub.revision}/{TINY.file}"
        self.send_response(200 if found else 404)
        if found:
            self.send_header("ETag", '"of-the-file"')
            self.send_header("X-Repo-Commit", TINY.hub.revision)
        self.send_header("Content-Length", str(len(CONTENT)) if found else "0")
        self.end_headers()
        return found

    def log_message(self, *_):
        pass


@pytest.fixture
def hub():
    Hub.asked, Hub.tokens = [], []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as running:
        threading.Thread(target=running.serve_forever, args=[0.01], daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def run(folder: Path, digest: str, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "FRUGALSEG_HOME": str(folder / "home"), "HF_HOME": str(folder / "hf"), **settings}
    command = [sys.executable, "-c", PROGRAM, digest, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_the_pinned_revision_is_fetched_and_checked(hub, tmp_path):
    digest = hashlib.sha256(CONTENT).hexdigest()
    done = run(tmp_path, digest, "weights", "fetch", "sam2.1-tiny", HF_ENDPOINT=hub, HF_TOKEN="hf_secret")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "home" / "weights" / "sam2.1-tiny"
    assert (folder / TINY.file).read_bytes() == CONTENT
    assert {path.name for path in folder.iterdir()} == {TINY.file, "origin.json"}
    assert not list(folder.parent.glob(".sam2.1-tiny.fetching"))
    assert {path for _, path in Hub.asked} == {f"/{TINY.hub.repo}/resolve/{TINY.hub.revision}/{TINY.file}"}
    assert set(Hub.tokens) == {None}, "public files need no token, so none is sent"
    assert "unchanged" in run(tmp_path, digest, "weights", "verify").stdout


def test_other_content_than_expected_is_not_kept(hub, tmp_path):
    done = run(tmp_path, TINY.sha256, "weights", "fetch", "sam2.1-tiny", HF_ENDPOINT=hub)
    assert done.returncode == 1
    assert f"expected {TINY.sha256}" in done.stderr
    assert not any(path.is_file() and path.suffix != ".lock" for path in (tmp_path / "home").rglob("*"))


@pytest.mark.parametrize(
    "settings", [{"HF_ENDPOINT": "http://127.0.0.1:9"}, {"HF_HUB_OFFLINE": "1"}], ids=["no network", "offline"]
)
def test_without_the_hub_one_line_says_how_to_import_the_file(tmp_path, settings):
    done = run(tmp_path, TINY.sha256, "weights", "fetch", "sam2.1-tiny", **settings)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert f"{TINY.file} (156 MB) of facebook/sam2.1-hiera-tiny on the Hugging Face Hub" in done.stderr
    assert f"get {TINY.file} (156 MB) from {TINY.source}" in done.stderr
    assert "frugalseg weights import sam2.1_hiera_tiny.pt --name sam2.1-tiny" in done.stderr
    assert not any(path.is_file() and path.suffix != ".lock" for path in (tmp_path / "home").rglob("*"))


def test_revisions_are_commits_and_files_are_checked():
    assert set(FROM_HUB) == {"sam2.1-tiny", "sam2.1-small", "sam2.1-base-plus", "sam2.1-large"}
    for entry in FROM_HUB.values():
        assert re.fullmatch("[0-9a-f]{40}", entry.hub.revision)
        assert entry.sha256
        assert entry.source == f"https://huggingface.co/{entry.hub.repo}/resolve/{entry.hub.revision}/{entry.file}"
