"""Health and metrics, answered from a node's own parts."""

from __future__ import annotations

from pathlib import Path

from orgseg_node.errors import ItemsFailed
from orgseg_node.node.config.current import CurrentConfig
from orgseg_node.node.monitoring.metrics import Meters
from orgseg_node.node.operations.reload import needs_restart
from orgseg_node.node.parts import Parts
from orgseg_node.node.routing.revision import revision_of
from orgseg_node.node.scheduler import Watchdog
from orgseg_node.web.health import liveness_problems, readiness_problems, readiness_warnings
from tests.unit.node.monitoring.test_alerts import Bench


class ManualClock:
    """A clock that the test sets."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_a_tick_that_does_not_finish_is_overdue_until_it_does() -> None:
    clock = ManualClock()
    watchdog = Watchdog(clock)
    watchdog.expect("judge", 10)
    watchdog.expect("purge", 100)
    clock.seconds = 11
    assert watchdog.overdue() == ["judge"]
    watchdog.check_in("judge")
    assert watchdog.overdue() == []
    clock.seconds = 200
    assert watchdog.overdue() == ["judge", "purge"]


def test_a_failing_tick_is_a_problem_and_a_failing_item_a_warning(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    watchdog = Watchdog()
    parts = Parts(config=CurrentConfig(bench.config), store=bench.store, meters=Meters(), watchdog=watchdog)
    for _ in range(3):
        watchdog.failed("dispatch", ItemsFailed("job 12: UNEXPECTED"))
    assert readiness_problems(parts) == []
    assert readiness_warnings(parts) == ["tick dispatch fails: OPERATION_ITEMS, 3 times (job 12: UNEXPECTED)"]
    for _ in range(3):
        watchdog.failed("judge", KeyError("Mueller"))
    assert readiness_problems(parts) == ["tick judge fails: UNEXPECTED, 3 times"]
    assert liveness_problems(parts) == [], "a restart would not help"


def test_a_revision_is_the_same_for_the_same_content_and_another_for_any_change(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    before = revision_of(bench.config)
    assert revision_of(bench.config) == before
    bench.min_free_mb = 7
    assert revision_of(bench.config) != before


def test_what_needs_a_restart_is_named(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    old = bench.config
    bench.min_free_mb = 7
    assert needs_restart(old, bench.config) == []
    node = old.node.model_copy(update={"port": 1, "ae_title": "X"})
    receiver = old.receiver.model_copy(update={"max_associations": 3, "quiet_seconds": 9.0})
    new = old.model_copy(update={"node": node, "receiver": receiver})
    assert needs_restart(old, new) == ["node.ae_title", "node.port", "receiver.max_associations"]
