from __future__ import annotations

import resource
import signal

import pytest

from frugalseg.engine.files import atomic_write, read_json, sha256, write_json
from frugalseg.errors import DiskError


def test_a_file_is_written_completely_or_not_at_all(tmp_path):
    path = tmp_path / "a" / "file.txt"
    with pytest.raises(KeyError), atomic_write(path, "w") as file:
        file.write("half")
        raise KeyError
    assert list((tmp_path / "a").iterdir()) == []
    with atomic_write(path, "w") as file:
        file.write("whöle")
        assert not path.exists()
    assert path.read_text(encoding="utf-8") == "whöle"


def test_old_content_survives_a_failed_write(tmp_path):
    path = tmp_path / "file.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert read_json(path) == {"a": 1}
    assert len(list(tmp_path.iterdir())) == 1


@pytest.fixture
def full_disk():
    """Writes past 10 kB fail, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_full_disk_is_a_clear_error_and_leaves_nothing(tmp_path, full_disk):
    path = tmp_path / "big.bin"
    with pytest.raises(DiskError, match=r"no space left while writing .*big\.bin"), atomic_write(path) as file:
        file.write(b"0" * 100_000)
    assert list(tmp_path.iterdir()) == []


def test_hash_of_a_folder_depends_on_the_content_of_every_file(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"2")
    before = sha256(tmp_path)
    (tmp_path / "b").write_bytes(b"3")
    assert sha256(tmp_path) != before
