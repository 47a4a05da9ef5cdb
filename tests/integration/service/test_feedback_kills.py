"""The kill test of feedback: the node is killed while structure sets arrive and are measured.

ORGSEG_KILLS sets how often; 100 take an hour.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from orgseg_node.core.organs import OrganTable
from orgseg_node.node.feedback.model import Feedback, FeedbackState
from orgseg_node.node.feedback.rows import FeedbackRows
from tests.support.node.feedback_bench import FeedbackBench, shifted, written
from tests.support.node.leaks import LEAKS
from tests.support.node.node_process import NodeProcess, running_node, wait_while_moving
from tests.support.peers.dcmtk import free_port, storescu

pytestmark = [pytest.mark.endurance, pytest.mark.peer, pytest.mark.timeout(14400), *LEAKS]

KILLS = int(os.environ.get("ORGSEG_KILLS", "5"))
SETS = 8
STILL_S = 300.0
"""On a busy machine measuring may take long, but the process that measures always gets some time."""

PEER = '[[peers]]\nae_title = "PLANNER"\nfeedback = true\n'


class Planner:
    """Sends structure sets until each got Success, whatever happens to the node."""

    def __init__(self, node: NodeProcess, files: Sequence[Path]) -> None:
        self._node, self._files = node, files
        self.acknowledged: set[Path] = set()
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def _send(self) -> None:
        while left := [file for file in self._files if file not in self.acknowledged]:
            with contextlib.suppress(subprocess.TimeoutExpired):
                done = storescu(self._node.port or 1, left[:1], "-aet", "PLANNER", "-aec", "ORGSEG")
                if done.returncode == 0:
                    self.acknowledged.add(left[0])
            time.sleep(0.3)

    @property
    def is_done(self) -> bool:
        """Whether all got Success."""
        return not self._thread.is_alive()


def rows_of(node: NodeProcess) -> list[Feedback]:
    with contextlib.closing(node.store()) as store:
        return FeedbackRows(store.database).all()


def waiting(node: NodeProcess) -> int:
    """How many structure sets wait to be measured."""
    return sum(one.state is FeedbackState.RECEIVED for one in rows_of(node))


def test_nothing_that_came_back_is_lost_or_counted_twice(tmp_path: Path, organ_table: OrganTable) -> None:
    bench = FeedbackBench(tmp_path / "data", organ_table)
    files = []
    for number in range(SETS):
        files.append(tmp_path / f"{number}.dcm")
        files[-1].write_bytes(written(bench.returned(shifted("Brainstem", x_mm=4.0 * number))))
    bench.store.close()
    dice = random.Random(1)
    with running_node(tmp_path, free_port(), more=PEER) as node:
        planner = Planner(node, files)
        for _ in range(KILLS):
            time.sleep(dice.uniform(0.0, 6.0))
            node.kill()
            node.start()
        wait_while_moving(
            lambda: planner.is_done, lambda: len(planner.acknowledged), STILL_S, "all got Success"
        )
        wait_while_moving(
            lambda: not waiting(node),
            lambda: (waiting(node), node.children_s("feedback.child")),
            STILL_S,
            "measured",
        )
        found = rows_of(node)
        with contextlib.closing(node.store()) as store:
            events = Counter(
                (event.subject, event.change)
                for one in found
                for event in store.events(str(one.number))
                if event.kind == "feedback"
            )
        node.stop()
    assert len(found) == SETS == len(planner.acknowledged)
    assert all((node.data / one.path).is_file() for one in found)
    states = Counter(one.state for one in found)
    assert states == {FeedbackState.COUNTED: 1, FeedbackState.SUPERSEDED: SETS - 1}
    assert all(events[str(one.number), "RECEIVED -> COUNTED"] <= 1 for one in found)
