"""The tables of transitions: every pair is checked against the database."""

from __future__ import annotations

import itertools
import sqlite3
from enum import StrEnum
from pathlib import Path

import pytest

from orgseg_node.node.store.model import (
    COMPUTING,
    DELIVERY_TRANSITIONS,
    JOB_TRANSITIONS,
    MODEL_TRANSITIONS,
    NEEDS_WORKER,
    SERIES_TRANSITIONS,
    DeliveryState,
    JobState,
    ModelState,
    SeriesState,
)
from orgseg_node.node.store.store import DATABASE, Store

TABLES = {
    "series": SERIES_TRANSITIONS,
    "job": JOB_TRANSITIONS,
    "delivery": DELIVERY_TRANSITIONS,
    "model_version": MODEL_TRANSITIONS,
}
STATES: dict[str, type[StrEnum]] = {
    "series": SeriesState,
    "job": JobState,
    "delivery": DeliveryState,
    "model_version": ModelState,
}
PRODUCT = [(kind, a, b) for kind, states in STATES.items() for a, b in itertools.product(states, states)]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> sqlite3.Connection:
    folder = tmp_path_factory.mktemp("db")
    Store(folder).close()
    connection = sqlite3.connect(folder / DATABASE, isolation_level=None)
    connection.execute(
        "INSERT INTO series (series_uid, state, reason, calling_ae, created_at, last_received_at)"
        " VALUES ('1', 'RECEIVING', 'r', 'A', 't', 't')"
    )
    connection.execute(
        "INSERT INTO job (job_id, series_uid, revision, content_sha256, bundles, slices, state, reason, note,"
        " created_at, updated_at) VALUES (?, '1', 1, ?, 'b', 3, 'QUEUED', 'r', 'n', 't', 't')",
        ("0" * 16, "0" * 64),
    )
    connection.execute(
        "INSERT INTO delivery (job_id, role, destination, path, sop_uid, state, next_attempt_at)"
        " VALUES (?, 'SEG', 'tps', 'p', '1', 'PENDING', 't')",
        ("0" * 16,),
    )
    connection.execute(
        "INSERT INTO model_version (family, sha256, bundle, state, added_at, updated_at)"
        " VALUES ('head-neck', ?, 'head-neck@1', 'CANDIDATE', 't', 't')",
        ("0" * 64,),
    )
    return connection


@pytest.mark.parametrize(("kind", "source", "target"), PRODUCT)
def test_the_database_allows_exactly_what_the_table_allows(
    database: sqlite3.Connection, kind: str, source: StrEnum, target: StrEnum
) -> None:
    guards = database.execute("SELECT sql FROM sqlite_master WHERE name = ?", (f"{kind}_guard",)).fetchone()[
        0
    ]
    database.execute("BEGIN")
    try:
        database.execute(f"DROP TRIGGER {kind}_guard")
        database.execute(f"UPDATE {kind} SET state = ?", (source,))  # noqa: S608 (fixed names)
        database.execute(guards)
        if source == target or target in TABLES[kind][source]:
            database.execute(f"UPDATE {kind} SET state = ?", (target,))  # noqa: S608 (fixed names)
        else:
            with pytest.raises(sqlite3.IntegrityError, match="illegal transition"):
                database.execute(f"UPDATE {kind} SET state = ?", (target,))  # noqa: S608 (fixed names)
    finally:
        database.execute("ROLLBACK")


def test_the_database_knows_no_other_states(database: sqlite3.Connection) -> None:
    for kind in STATES:
        with pytest.raises(sqlite3.IntegrityError):
            database.execute(f"UPDATE {kind} SET state = 'LOST'")  # noqa: S608 (fixed names)


def test_every_state_can_be_reached_and_every_working_state_left() -> None:
    for kind, start in (("series", "RECEIVING"), ("job", "QUEUED"), ("delivery", "PENDING")):
        table, seen, todo = TABLES[kind], set(), [STATES[kind](start)]
        while todo:
            state = todo.pop()
            if state not in seen:
                seen.add(state)
                todo += sorted(table[state])
        assert seen == set(STATES[kind])
    assert all(JOB_TRANSITIONS[state] for state in COMPUTING | NEEDS_WORKER)


def test_the_history_is_written_by_the_database_and_cannot_be_changed(tmp_path: Path) -> None:
    Store(tmp_path).close()
    connection = sqlite3.connect(tmp_path / DATABASE)
    connection.execute(
        "INSERT INTO series (series_uid, state, calling_ae, created_at, last_received_at)"
        " VALUES ('1', 'RECEIVING', 'A', 't', 't')"
    )
    connection.execute("UPDATE series SET state = 'READY', note = '3 slices'")
    rows = connection.execute("SELECT change, note FROM event").fetchall()
    assert rows == [("-> RECEIVING", "from A"), ("RECEIVING -> READY", "3 slices")]
    for sql in ("UPDATE event SET note = 'x'", "DELETE FROM event"):
        with pytest.raises(sqlite3.IntegrityError, match="never"):
            connection.execute(sql)
    connection.close()
