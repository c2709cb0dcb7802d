"""The lock of a study, and folders that may only be read."""

from __future__ import annotations

import errno
import threading
from pathlib import Path

import pytest
from filelock import FileLock

from frugalseg.errors import DiskError, RunError
from frugalseg.studies.jobs import state as room
from frugalseg.studies.jobs.state import LOCK, is_study_running, lock_study
from tests.studies.plans import PLAN, options, write_plan


def refuse(*_given, **_more):
    """Tests may run as root, whom no file mode stops."""
    raise PermissionError(errno.EACCES, "Permission denied")


def test_a_folder_that_cannot_be_made(tmp_path, monkeypatch):
    from frugalseg.studies.run import study

    plan = write_plan(tmp_path, PLAN)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", refuse)
        with pytest.raises(DiskError, match="out cannot be written") as caught:
            study(options(plan, tmp_path / "out"))
    assert "--out" in caught.value.cure
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(FileLock, "acquire", refuse)
    with pytest.raises(DiskError, match="cannot be written"), lock_study(tmp_path):
        raise AssertionError("it does not begin")


def test_what_goes_wrong_at_work_is_not_called_a_folder_that_cannot_be_written(tmp_path):
    with pytest.raises(PermissionError), lock_study(tmp_path):
        refuse()
    assert is_study_running(tmp_path) is False


def test_whether_someone_is_at_work(tmp_path, monkeypatch):
    assert is_study_running(tmp_path) is False
    with lock_study(tmp_path):
        assert is_study_running(tmp_path) is True
    assert is_study_running(tmp_path) is False
    monkeypatch.setattr(room, "FileLock", refuse)
    assert is_study_running(tmp_path) is None


def test_who_only_asks_is_not_taken_for_one_at_work(tmp_path):
    asking = FileLock(tmp_path / LOCK, thread_local=False)
    asking.acquire()
    threading.Timer(0.2, asking.release).start()
    with lock_study(tmp_path):
        assert is_study_running(tmp_path)
    with lock_study(tmp_path), pytest.raises(RunError, match="another process"), lock_study(tmp_path):
        raise AssertionError("two at once")
