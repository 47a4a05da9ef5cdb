"""What the pages ask the database is the same on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from orgseg_node.node.store.database import Database
from orgseg_node.web.pages.configuration.node import search_history
from orgseg_node.web.pages.live import LiveFeed
from orgseg_node.web.pages.snapshot import last_deliveries


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    is_file = request.param == "sqlite"
    opened = Database(
        tmp_path / "db" / "node.sqlite" if is_file else request.getfixturevalue("postgres").new_database()
    )
    yield opened
    opened.close()


def _append(database: Database, *events: tuple[str, str, str, str]) -> None:
    with database.write() as tx:
        for event in events:
            tx.append_event(*event)


def test_an_event_is_found_by_its_words_as_they_are(database: Database) -> None:
    _append(
        database,
        ("job", "a1", "approve", "by Anna: 100% seen"),
        ("job", "a2", "approve", "by Bert: 100 seen"),
        ("user", "Anna", "saw", "job a1"),
    )
    assert [one.subject for one in search_history(database, "100%")] == ["a1"]
    assert [one.subject for one in search_history(database, "anna")] == ["Anna", "a1"]
    assert [one.subject for one in search_history(database, "anna", "job")] == ["a1"]
    assert search_history(database, "100_seen") == []
    newest = search_history(database, "")[0]
    assert newest.number not in {one.number for one in search_history(database, "", before=newest.number)}


def test_the_last_delivery_of_a_destination_is_known(database: Database) -> None:
    _append(
        database,
        ("delivery", "a1", "SENDING -> STORED", "RTSTRUCT to tps"),
        ("delivery", "a1", "SENDING -> RETRY_WAIT", "SEG to pacs: it does not answer"),
        ("delivery", "a1", "SENDING -> STORED", "SEG to tps: late"),
    )
    assert set(last_deliveries(database)) == {"tps"}


def test_open_pages_learn_of_what_happens_and_not_of_what_is_looked_at(database: Database) -> None:
    feed = LiveFeed(database)
    before = feed.read()
    _append(database, ("user", "Anna", "saw", "job a1"))
    assert feed.read() == before
    _append(database, ("job", "a1", "approve", ""))
    assert feed.read() != before
