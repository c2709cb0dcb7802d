"""Work on scans by a cluster of two nodes on this machine: as by threads, whatever happens to a node or a process."""

from __future__ import annotations

import pytest

from frugalseg.engine import ray_pool
from frugalseg.engine.pool import InThreads, OneAfterAnother
from frugalseg.engine.ray_pool import open_pool
from frugalseg.engine.ray_worker import list_versions
from frugalseg.engine.threads import use_threads
from frugalseg.errors import DiskError, RunError, ScanError
from tests.cluster.letters import CASES, Letters
from tests.cluster.nodes import kill_in_the_middle

DONE = {name: f"{2 * name.upper()} 1" for name in CASES}
ALONE = OneAfterAnother()


@pytest.fixture
def run(nodes, tmp_path):
    """Run `Letters` on the cluster; `keep` is called in this process."""

    def run_letters(fault="", keep=lambda case, made: made, needs=()):
        (tmp_path / "counted").mkdir(exist_ok=True)
        with open_pool("auto", ALONE, threads=1) as pool:
            return pool.run(Letters(tmp_path / "counted", fault, needs), CASES, keep, "working")

    return run_letters


@pytest.mark.parametrize("pool", [ALONE, InThreads(0), InThreads(2)])
def test_pools_of_this_machine_do_the_same(pool, tmp_path):
    with use_threads(1), open_pool(None, pool) as opened:
        assert opened is pool
        assert pool.run(Letters(tmp_path), CASES, lambda _, made: made, "working") == (DONE, {})
        results, failures = pool.run(Letters(tmp_path, "broken"), CASES, lambda _, made: made, "working")
    assert results == {case: made for case, made in DONE.items() if case != "c"}
    assert list(failures) == ["c"]


def test_every_process_sets_up_once_and_this_one_keeps(run, tmp_path, capsys):
    kept = []
    results, failures = run("says", lambda case, made: kept.append(case) or made)
    assert (results, failures) == (DONE, {})
    assert list(results) == list(CASES)
    assert sorted(kept) == sorted(CASES)
    assert 1 <= len(list((tmp_path / "counted").glob("loaded by *"))) <= 2
    said = capsys.readouterr().err
    assert "working: 6 scans in " in said
    assert "something about c" in said
    assert "the model is loaded" not in said, "the process that sends the work says it"


def test_warnings_come_from_the_cluster(run):
    ray_pool._shown.clear()
    with pytest.warns(UserWarning, match="c looks odd"):
        run("says")


def test_a_broken_scan_is_named_and_the_others_are_done(run):
    results, failures = run("broken")
    assert results == {case: made for case, made in DONE.items() if case != "c"}
    assert {case: (type(e), e.problem, e.cure) for case, e in failures.items()} == {
        "c": (ScanError, "c is damaged", "copy it again")
    }


def test_any_other_error_names_the_scan_and_ends_all(run):
    with pytest.raises(RuntimeError, match="unexpected error in case c on machine (.|\n)*shapes do not match"):
        run("bug")


def test_a_process_that_dies_three_times_on_a_scan_gives_up_that_scan(run, tmp_path, capsys):
    results, failures = run("dies")
    assert results == {case: made for case, made in DONE.items() if case != "c"}
    assert failures["c"].problem.startswith("c: the process working on it was lost 3 times, the last time: ")
    assert len(list((tmp_path / "counted").glob("died in *"))) == 3
    assert capsys.readouterr().err.count("c: the process working on it was lost") == 2


def test_the_scans_of_a_lost_node_are_done_by_the_other(run, nodes, monkeypatch, capsys):
    kill_in_the_middle(monkeypatch, nodes)
    assert run() == (DONE, {})
    assert nodes.count() == 1
    assert "was lost" in capsys.readouterr().err


def test_a_machine_with_a_full_disk_gets_no_more_scans(run):
    with pytest.warns(UserWarning, match="machine .* is used no more: no space left"):
        assert run("full") == (DONE, {})


def test_where_every_disk_is_full_the_command_ends(run, nodes):
    nodes.kill_one()
    with pytest.warns(UserWarning, match="used no more"), pytest.raises(RunError, match="no machine .* can go on"):
        run("full")


def test_a_missing_input_is_named_with_the_machine_before_the_first_scan(run, tmp_path):
    with pytest.raises(RunError, match=r"2 of 2 machines cannot do this work:\n  machine .* \(.*not there") as caught:
        run(needs=(tmp_path / "shared",))
    assert "mount the shared folder at the same path" in caught.value.cure
    assert not list(tmp_path.glob("counted/*"))


def test_what_set_up_lacks_is_named_with_the_machine(run):
    with pytest.raises(RunError, match="machine .*: the weights are not there"):
        run("set-up")


def test_other_versions_are_refused_with_the_machine(run, monkeypatch):
    monkeypatch.setattr(ray_pool, "list_versions", lambda: {**list_versions(), "torch": "1.0"})
    with pytest.raises(RunError, match=r"it has torch \d.*, the machine that runs the command has torch 1\.0"):
        run()


def test_ctrl_c_ends_the_tasks(run, tmp_path):
    def interrupted(case, made):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(keep=interrupted)
    assert run() == (DONE, {}), "the cores are free again"


def test_a_full_disk_here_ends_the_command(run):
    def full(case, made):
        raise DiskError("full", "make space")

    with pytest.raises(DiskError):
        run(keep=full)
