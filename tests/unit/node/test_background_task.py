"""One piece of work at a time, in a thread, on a data folder; it can be stopped."""

from __future__ import annotations

import threading
from pathlib import Path

from orgseg_node.node.background_task import BackgroundTask


def test_one_piece_of_work_runs_at_a_time_and_the_next_after_it(tmp_path: Path) -> None:
    task, begun, go_on = BackgroundTask("work", tmp_path), [], threading.Event()

    def work() -> None:
        begun.append(1)
        go_on.wait(60)

    task.begin(work)
    assert not task.is_free
    task.begin(work)
    go_on.set()
    task.stop()
    assert begun == [1]


def test_a_stopped_task_begins_nothing_and_its_work_is_told(tmp_path: Path) -> None:
    task, ended = BackgroundTask("work", tmp_path), threading.Event()
    task.begin(lambda: task.stopping.wait(60) and ended.set())
    task.stop()
    assert ended.is_set()
    assert not task.is_free
    task.begin(ended.clear)
    assert ended.is_set()


def test_two_processes_of_a_data_folder_do_not_do_the_same_work(tmp_path: Path) -> None:
    first, second = BackgroundTask("work", tmp_path / "locks"), BackgroundTask("work", tmp_path / "locks")
    with first.alone() as alone:
        assert alone
        with second.alone() as also:
            assert not also
        with BackgroundTask("other", tmp_path / "locks").alone() as another:
            assert another
    with second.alone() as now:
        assert now
