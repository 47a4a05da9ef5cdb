"""The sealed history: every change, removal, exchange and cut is seen, however it was made."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from orgseg_node.errors import AuditBroken
from orgseg_node.node.store.audit import Audit
from orgseg_node.node.store.canonical import HISTORY_KEY, HistoryKey, event_values
from orgseg_node.node.store.database import Database
from orgseg_node.node.store.model import Instance, JobState, NewJob, SeriesState
from orgseg_node.node.store.store import DATABASE, Store

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
CONTEXT = {"version": "1", "config": "c" * 16, "bundles": {"starter": "d" * 64}}


def with_job(folder: Path) -> tuple[Store, str]:
    """A store with one job, worked on under a context."""
    store = Store(folder)
    store.attribution.works_under(store.database, CONTEXT)
    store.accept(
        Instance(
            sop_uid="1.2.3.4", series_uid="1.2.3", sha256="a" * 64, size=10, path="inbox/1.2.3/1.2.3.4.dcm",
            transfer_syntax="1.2.840.10008.1.2.1", calling_ae="CT", received_at=NOW,
        )
    )  # fmt: skip
    new = NewJob(series_uid="1.2.3", content_sha256="b" * 64, bundles=("starter",), slices=1)
    assert store.judge(store.one_series("1.2.3"), SeriesState.READY, job=new)
    for state in (JobState.PREPARING, JobState.INFERRING, JobState.WRITING):
        store.move(new.job_id, state, "")
    return store, new.job_id


@pytest.fixture
def sealed(tmp_path: Path) -> tuple[Path, Audit]:
    store, _ = with_job(tmp_path)
    audit = Audit(store.database)
    assert audit.seal() == 7
    return tmp_path, audit


def tamper(folder: Path, *statements: str) -> None:
    """Change the file as somebody with the right to write could, without the triggers that forbid it."""
    with closing(sqlite3.connect(folder / DATABASE)) as file, file:
        for name in ("event_is_never_changed", "event_is_never_deleted"):
            file.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            file.execute(statement)


def test_an_untouched_history_is_as_it_was_sealed(sealed: tuple[Path, Audit]) -> None:
    _, audit = sealed
    assert audit.verify().link == 7
    assert audit.verify(str(audit.head())) == audit.head()
    assert audit.unsealed() == 0
    assert audit.seal() == 0


@pytest.mark.parametrize(
    "statements",
    [
        ["UPDATE event SET note = 'from SOMEBODY' WHERE number = 1"],
        ["UPDATE event SET at = '2020-01-01T00:00:00.000+00:00' WHERE number = 3"],
        ["UPDATE event SET change = '-> DONE' WHERE number = 5"],
        ["UPDATE event SET subject = '1.2.4' WHERE number = 2"],
        ["DELETE FROM event WHERE number = 4"],
        ["DELETE FROM event WHERE number = 7"],
        ["DELETE FROM event WHERE number = 4", "DELETE FROM seal WHERE event_number = 4"],
        [
            "UPDATE event SET number = 100 WHERE number = 5",
            "UPDATE event SET number = 5 WHERE number = 6",
            "UPDATE event SET number = 6 WHERE number = 100",
        ],
        [
            "UPDATE event SET number = 101 WHERE number = 7",
            "UPDATE seal SET event_number = 101 WHERE event_number = 7",
        ],
        ["UPDATE seal SET hash = replace(hash, substr(hash, 1, 1), 'x') WHERE link = 3"],
    ],
    ids=[
        "note", "time", "change", "subject", "deleted", "last deleted", "deleted with its link", "exchanged",
        "renumbered", "link",
    ],
)  # fmt: skip
def test_whatever_is_changed_is_seen(sealed: tuple[Path, Audit], statements: list[str]) -> None:
    folder, audit = sealed
    tamper(folder, *statements)
    with pytest.raises(AuditBroken):
        audit.verify()


def test_a_cut_off_end_is_seen_by_the_head_that_was_noted(sealed: tuple[Path, Audit]) -> None:
    folder, audit = sealed
    noted = str(audit.head())
    tamper(folder, "DELETE FROM event WHERE number >= 6", "DELETE FROM seal WHERE link >= 6")
    assert audit.verify().link == 5, "the chain alone cannot tell"
    with pytest.raises(AuditBroken, match="does not contain"):
        audit.verify(noted)


def insert(folder: Path, numbers: list[int], *, marked: bool) -> None:
    """Add events with SQL, with the marks of the node or without."""
    key = HistoryKey((folder / DATABASE).with_name(HISTORY_KEY))
    assert key.read()
    with closing(sqlite3.connect(folder / DATABASE)) as file, file:
        for number in numbers:
            row = (number, "2026-01-02T03:04:05.000+00:00", "config", "-", "x", "")
            file.execute("INSERT INTO event VALUES (?, ?, ?, ?, ?, ?)", row)
            if marked:
                file.execute("INSERT INTO event_mark VALUES (?, ?)", (number, key.code(*event_values(row))))


def test_an_event_that_came_late_is_sealed_later_and_none_is_left_out(sealed: tuple[Path, Audit]) -> None:
    folder, audit = sealed
    insert(folder, [30, 20], marked=True)
    assert audit.seal() == 2
    insert(folder, [10], marked=True)
    assert audit.seal() == 1
    assert audit.verify().link == 10
    assert audit.unsealed() == 0


def test_a_forged_event_is_never_sealed_and_is_reported(sealed: tuple[Path, Audit]) -> None:
    folder, audit = sealed
    insert(folder, [8], marked=False)
    assert audit.seal() == 0
    with pytest.raises(AuditBroken, match="1 events were not written by the node: 8"):
        audit.verify()
    store = Store(folder)
    with store.database.write() as tx:
        tx.append_event("config", "-", "x", "")
    assert audit.seal() == 1, "what the node writes afterwards is sealed"
    assert audit.forged() == [8]


def test_a_forged_event_with_a_mark_and_a_link_of_its_own_is_reported(sealed: tuple[Path, Audit]) -> None:
    folder, audit = sealed
    insert(folder, [8], marked=False)
    tamper(
        folder,
        "INSERT INTO event_mark SELECT 8, code FROM event_mark WHERE number = 7",
        "INSERT INTO seal SELECT 8, 8, hash FROM seal WHERE link = 7",
    )
    assert audit.forged() == [8]


@pytest.mark.parametrize("statement", ["DELETE FROM marked_since", "UPDATE marked_since SET number = 9"])
def test_marks_cannot_be_switched_off_with_sql(sealed: tuple[Path, Audit], statement: str) -> None:
    folder, audit = sealed
    tamper(folder, statement)
    with pytest.raises(AuditBroken, match="key"):
        audit.verify()


def test_the_key_is_for_the_user_of_the_node_only(sealed: tuple[Path, Audit]) -> None:
    folder, _ = sealed
    assert (folder / DATABASE).with_name(HISTORY_KEY).stat().st_mode & 0o777 == 0o600


def test_a_lost_key_is_replaced_at_the_next_start_and_the_history_says_so(
    sealed: tuple[Path, Audit],
) -> None:
    folder, audit = sealed
    (folder / DATABASE).with_name(HISTORY_KEY).unlink()
    with pytest.raises(AuditBroken, match="key"):
        Audit(Database(folder / DATABASE, read_only=True)).verify()
    store = Store(folder)
    audit = Audit(store.database)
    assert audit.seal() == 1
    assert audit.verify().link == 8
    assert [event.change for event in store.events("-")] == ["key"]


def test_events_from_before_there_was_a_key_are_sealed_as_they_are(tmp_path: Path) -> None:
    with_job(tmp_path)
    tamper(
        tmp_path, "DROP TABLE event_mark", "DROP TABLE marked_since",
        "DELETE FROM schema_step WHERE name = '008_event_marks'",
    )  # fmt: skip
    (tmp_path / DATABASE).with_name(HISTORY_KEY).unlink()
    audit = Audit(Store(tmp_path).database)
    assert audit.seal() == 7
    assert audit.verify().link == 7


def test_two_that_seal_at_once_make_one_chain(tmp_path: Path) -> None:
    store, job_id = with_job(tmp_path)
    audits = [Audit(Database(tmp_path / DATABASE)) for _ in range(2)]
    done = threading.Event()

    def seal(audit: Audit) -> Callable[[], None]:
        def work() -> None:
            while not done.is_set():
                audit.seal()
            audit.seal()

        return work

    threads = [threading.Thread(target=seal(audit)) for audit in audits]
    for thread in threads:
        thread.start()
    for _ in range(30):
        store.move(job_id, JobState.QUEUED, "")
        store.move(job_id, JobState.PREPARING, "")
        store.move(job_id, JobState.INFERRING, "")
    done.set()
    for thread in threads:
        thread.join()
    assert audits[0].verify().link == 7 + 90
    assert audits[0].unsealed() == 0


def test_each_transition_has_the_context_it_was_made_under(tmp_path: Path) -> None:
    store, job_id = with_job(tmp_path)
    other = store.attribution.works_under(store.database, {**CONTEXT, "version": "2"})
    store.move(job_id, JobState.CHECKING, "")
    store.move(job_id, JobState.REVIEW, "")
    lines = [line for line in Audit(store.database).export() if line["subject"] == job_id]
    made_by = {line["change"]: line["made_by"] for line in lines}
    assert '"version":"1"' in made_by["INFERRING -> WRITING"]
    assert "d" * 64 in made_by["INFERRING -> WRITING"]
    assert '"version":"2"' in made_by["CHECKING -> REVIEW"]
    assert [line["change"] for line in lines].count("context") == 2
    assert lines[-1]["context"] == other
    assert lines[-1]["link"] is None, "not sealed yet"
