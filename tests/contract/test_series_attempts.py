"""How often reading a series failed, on SQLite and PostgreSQL alike; and a series that is judged again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orgseg_node.node.intake.judging_again import judge_again
from orgseg_node.node.store.database import Database
from orgseg_node.node.store.model import SeriesState
from orgseg_node.node.store.series_attempts import SeriesAttempts
from orgseg_node.node.store.store import Store
from tests.contract.test_database import an_instance

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    is_file = request.param == "sqlite"
    place = tmp_path / "node.sqlite" if is_file else request.getfixturevalue("postgres").new_database()
    opened = Store(Database(place))
    opened.accept(an_instance(0))
    yield opened
    opened.close()


def test_what_was_being_read_when_the_node_was_killed_has_failed(store: Store) -> None:
    series, attempts = store.one_series("1.2"), SeriesAttempts(store.database)
    for count in (1, 2):
        attempts.begin(series, NOW)
        assert SeriesAttempts(store.database).interrupted(NOW) == [("1.2", count)]
    attempts.begin(series, NOW)
    attempts.end("1.2")
    assert attempts.interrupted(NOW) == []
    found = attempts.of(series)
    assert found is not None
    assert (found.attempts, found.next_at > NOW) == (2, True)
    attempts.begin(series, NOW)
    assert attempts.failed(series, NOW) == 3
    assert attempts.interrupted(NOW) == [], "counted once"


def test_a_new_revision_begins_with_no_failed_attempt(store: Store) -> None:
    series, attempts = store.one_series("1.2"), SeriesAttempts(store.database)
    attempts.failed(series, NOW)
    assert store.judge(series, SeriesState.HOLD, reason="RULE_HOLD", note="a rule")
    judge_again(store, "1.2", "by anna")
    again = store.one_series("1.2")
    assert (again.state, again.revision) == (SeriesState.RECEIVING, 2)
    assert attempts.of(again) is None
    attempts.begin(again, NOW)
    assert attempts.interrupted(NOW + timedelta(hours=1)) == [("1.2", 1)]


def test_one_process_reads_a_series_ahead(store: Store) -> None:
    series = store.one_series("1.2")
    first, second = SeriesAttempts(store.database), SeriesAttempts(store.database)
    assert first.may_preload(series, NOW)
    assert first.may_preload(series, NOW)
    assert not second.may_preload(series, NOW)
    first.forget("1.2")
    assert second.may_preload(series, NOW)
