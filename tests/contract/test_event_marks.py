"""An event that somebody adds with SQL is not taken for one of the node, on SQLite and on PostgreSQL."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from orgseg_node.errors import AuditBroken
from orgseg_node.node.config.database import Server
from orgseg_node.node.store.audit import Audit
from orgseg_node.node.store.database import Database

FORGED = "INSERT INTO {}event (kind, subject, change) VALUES ('job', 'j', 'approve')"


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | Server:
    if request.param == "sqlite":
        return tmp_path / "db" / "node.sqlite"
    server: Server = request.getfixturevalue("postgres").new_database()
    return replace(server, key_file=tmp_path / "history.key")


def forge(place: Path | Server) -> None:
    if isinstance(place, Server):
        with psycopg.connect(place.url, password=place.password or None) as connection:
            connection.execute(FORGED.format("orgseg."))
        return
    with closing(sqlite3.connect(place)) as file, file:
        file.execute(FORGED.format(""))


def test_only_events_that_the_node_wrote_are_sealed(place: Path | Server) -> None:
    with closing(Database(place)) as database:
        audit = Audit(database)
        for note in ("one", "two"):
            with database.write() as tx:
                tx.append_event("notice", "x", "y", note)
        assert audit.seal() == 2
        forge(place)
        with database.write() as tx:
            tx.append_event("notice", "x", "y", "three")
        assert audit.seal() == 1
        with pytest.raises(AuditBroken, match="1 events were not written by the node"):
            audit.verify()
    with closing(Database(place, read_only=True)) as seen:
        assert len(Audit(seen).forged()) == 1
