"""Processes of the tests themselves: several threads may wait for the same one."""

from __future__ import annotations

import signal
import threading

from tests.support.processes.forked import ForkedProcess


def test_a_process_may_be_waited_for_and_killed_by_several_threads_at_once() -> None:
    for _ in range(20):
        process = ForkedProcess("http.server", ["0", "--bind", "127.0.0.1"])
        seen: list[int | None] = []
        threads = [threading.Thread(target=lambda: seen.append(process.wait(60))) for _ in range(3)]  # noqa: B023
        for thread in threads:
            thread.start()
        process.kill()
        seen.append(process.wait(60))
        for thread in threads:
            thread.join()
        assert seen == [-signal.SIGKILL] * 4
        assert process.poll() == -signal.SIGKILL
