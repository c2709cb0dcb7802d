"""Lock of an output folder."""

from __future__ import annotations

import errno
import fcntl
import signal

import pytest

from frugalseg.engine.lock import LOCK, lock_folder
from frugalseg.errors import RunError
from tests.processes import lock_held, try_lock


def test_a_second_process_is_refused_until_the_first_releases_the_lock(tmp_path):
    lock = lock_folder(tmp_path / "new" / "folder")
    assert try_lock(tmp_path / "new" / "folder") == "another process works"
    lock.release()
    assert try_lock(tmp_path / "new" / "folder") == "free"


def test_the_lock_of_a_killed_process_is_released(tmp_path):
    with lock_held(tmp_path, signal.SIGKILL) as heard:
        assert heard == "free"
        with pytest.raises(RunError, match="another process works in") as caught:
            lock_folder(tmp_path)
        assert "another --out" in caught.value.cure
    lock_folder(tmp_path).release()


def test_the_lock_is_reentrant_within_a_process(tmp_path):
    outer, inner = lock_folder(tmp_path), lock_folder(tmp_path)
    inner.release()
    assert try_lock(tmp_path) == "another process works"
    outer.release()
    assert try_lock(tmp_path) == "free"


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_gives_a_warning_and_is_used(tmp_path, monkeypatch, capsys, number):
    def missing(*_):
        raise OSError(number, "no locks here")

    monkeypatch.setattr(fcntl, "flock", missing)
    lock = lock_folder(tmp_path)
    assert "on a file system without locks" in capsys.readouterr().err
    lock.release()
    assert {path.name for path in tmp_path.iterdir()} <= {LOCK}
