"""The guarantees of the database for writers, proven on SQLite and on PostgreSQL."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

import psycopg
import pytest

from orgseg_node.errors import DatabaseUnreachable, IllegalTransition, StorageError
from orgseg_node.node.config.database import Server
from orgseg_node.node.store.database import Database, schema_steps
from orgseg_node.node.store.model import (
    DELIVERY_TRANSITIONS,
    JOB_TRANSITIONS,
    SERIES_TRANSITIONS,
    DeliveryState,
    Instance,
    JobState,
    NewJob,
    OutputObject,
    SeriesState,
)
from orgseg_node.node.store.store import Store
from tests.support.peers.postgres import Cluster

TABLES = {"series": SERIES_TRANSITIONS, "job": JOB_TRANSITIONS, "delivery": DELIVERY_TRANSITIONS}
STATES: dict[str, type[StrEnum]] = {"series": SeriesState, "job": JobState, "delivery": DeliveryState}
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SERIES = (
    "INSERT INTO series (series_uid, state, reason, calling_ae, created_at, last_received_at)"
    " VALUES (?, ?, 'r', 'A', '2026-01-02T03:04:05.000000+00:00', '2026-01-02T03:04:05.000000+00:00')"
)
JOB = (
    "INSERT INTO job (job_id, series_uid, revision, content_sha256, bundles, slices, state, reason, note,"
    " created_at, updated_at) VALUES (?, '1', 1,"
    " '0000000000000000000000000000000000000000000000000000000000000000',"
    " 'b', 3, ?, 'r', 'n', 't', 't')"
)
DELIVERY = (
    "INSERT INTO delivery (job_id, role, destination, path, sop_uid, state, next_attempt_at)"
    " VALUES ('0000000000000000', 'SEG', 'tps', 'p', '1', ?, 't')"
)
PATH_TO_SENDING = (JobState.PREPARING, JobState.INFERRING, JobState.WRITING, JobState.CHECKING)


def an_instance(number: int, content: str = "a", series: str = "1.2") -> Instance:
    return Instance(
        sop_uid=f"1.2.{number}", series_uid=series, sha256=content * 64, size=10,
        path=f"inbox/{series}/{number}{content}.dcm", transfer_syntax="1.2.840.10008.1.2.1", calling_ae="CT",
        received_at=NOW,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """A place for a database, and how to open it as another process would."""

    place: Path | Server

    def open(self, *, read_only: bool = False) -> Database:
        return Database(self.place, read_only=read_only)


@pytest.fixture(params=["sqlite", "postgres"])
def ground(request: pytest.FixtureRequest, tmp_path: Path) -> Ground:
    if request.param == "sqlite":
        return Ground(place=tmp_path / "db" / "node.sqlite")
    return Ground(place=request.getfixturevalue("postgres").new_database())


@pytest.fixture
def database(ground: Ground) -> Iterator[Database]:
    opened = ground.open()
    yield opened
    opened.close()


def at_once(*actions: Callable[[], None]) -> list[BaseException]:
    """Run actions in threads that begin together; what they raised."""
    barrier, raised = threading.Barrier(len(actions)), list[BaseException]()

    def run(action: Callable[[], None]) -> None:
        barrier.wait(30)
        try:
            action()
        except Exception as error:  # noqa: BLE001 (the test checks it)
            raised.append(error)

    threads = [threading.Thread(target=run, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return raised


class TestDatabase:
    """One class for the seam."""

    def test_processes_that_start_at_once_make_one_schema(self, ground: Ground) -> None:
        opened: list[Database] = []

        def start() -> None:
            database = ground.open()
            opened.append(database)
            database.close()

        assert at_once(*[start] * 6) == []
        with opened[0].write() as tx:
            dialect = "postgres" if isinstance(ground.place, Server) else "sqlite"
            names = [step.name for step in schema_steps(dialect)]
            assert [name for (name,) in tx.rows("SELECT name FROM schema_step ORDER BY name")] == sorted(
                names
            )
        opened[0].close()

    def test_a_database_of_tomorrow_is_not_touched(self, ground: Ground, database: Database) -> None:
        with database.write() as tx:
            tx.run("INSERT INTO schema_step VALUES ('999_of_tomorrow')")
        with pytest.raises(StorageError, match="999_of_tomorrow"):
            ground.open()

    def test_a_transaction_happens_as_a_whole_or_not_at_all(self, database: Database) -> None:
        with pytest.raises(KeyError), database.write() as tx:
            raise KeyError(tx.run(SERIES, ("1", "RECEIVING")))
        with database.write() as tx:
            assert tx.rows("SELECT * FROM series") == []
            assert tx.rows("SELECT * FROM event") == []

    def test_an_error_that_was_ignored_is_never_reported_as_success(self, database: Database) -> None:
        """PostgreSQL undoes a transaction in which a statement failed, without an error at the commit."""
        try:
            with database.write() as tx:
                tx.run(SERIES, ("1", "RECEIVING"))
                with pytest.raises(Exception, match=r"(?i)constraint"):
                    tx.run(SERIES, ("2", "LOST"))
        except StorageError:
            kept = 0
        else:
            kept = 1
        with database.write() as tx:
            assert tx.rows("SELECT count(*) FROM series") == [(kept,)]

    def test_a_reader_cannot_write_and_needs_a_node(self, ground: Ground) -> None:
        with pytest.raises(StorageError, match="no node database"):
            ground.open(read_only=True)
        ground.open().close()
        reader = ground.open(read_only=True)
        with pytest.raises(StorageError), reader.write() as tx:
            tx.run(SERIES, ("1", "RECEIVING"))
        reader.close()

    def test_values_come_back_as_they_went_in(self, database: Database) -> None:
        note = "100 % of 'it', ? and \\ too"
        with database.write() as tx:
            tx.run(SERIES, ("1", SeriesState.RECEIVING))
            assert tx.run("UPDATE series SET note = ?, revision = ? WHERE note <> '?%s'", (note, True)) == 1
            sql = "SELECT note, revision, '?' FROM series WHERE note LIKE '100 %' AND (? IS NULL OR note = ?)"
            assert tx.rows(sql, (None, None)) == [(note, 1, "?")]
            ((total, mean),) = tx.rows("SELECT sum(revision), avg(revision) FROM series")
        assert (type(total), total, float(mean)) == (int, 1, 1.0)

    def test_the_history_is_written_by_the_database_and_cannot_be_changed(self, database: Database) -> None:
        with database.write() as tx:
            tx.run(SERIES, ("1", "RECEIVING"))
            tx.run("UPDATE series SET state = 'READY', note = '3 slices'")
            events = tx.rows("SELECT kind, subject, change, note FROM event ORDER BY number")
            ((at,),) = tx.rows("SELECT at FROM event WHERE change = '-> RECEIVING'")
        assert events == [
            ("series", "1", "-> RECEIVING", "from A"),
            ("series", "1", "RECEIVING -> READY", "3 slices"),
        ]
        assert abs((datetime.fromisoformat(at) - datetime.now(UTC)).total_seconds()) < 60
        for sql in ("UPDATE event SET note = 'x'", "DELETE FROM event"):
            with pytest.raises(IllegalTransition, match="never"), database.write() as tx:
                tx.run(sql)

    def test_the_history_describes_jobs_and_deliveries_in_the_same_words(self, database: Database) -> None:
        with database.write() as tx:
            tx.run(SERIES, ("1", "READY"))
            tx.run(JOB, ("0" * 16, "SENDING"))
            tx.run(DELIVERY, ("PENDING",))
            tx.run("UPDATE delivery SET state = 'SENDING'")
            tx.run("UPDATE delivery SET state = 'FAILED', note = 'no'")
            tx.run("UPDATE job SET state = 'FAILED', note = 'none'")
            rows = tx.rows("SELECT kind, change, note FROM event WHERE kind <> 'series' ORDER BY number")
        assert rows == [
            ("job", "-> SENDING", "n"),
            ("delivery", "-> PENDING", "SEG to tps"),
            ("delivery", "PENDING -> SENDING", "SEG to tps"),
            ("delivery", "SENDING -> FAILED", "SEG to tps: no"),
            ("job", "SENDING -> FAILED", "none"),
        ]

    @pytest.mark.parametrize("kind", TABLES)
    def test_exactly_the_transitions_of_the_table_are_allowed(self, database: Database, kind: str) -> None:
        """Every pair of states: a row is inserted in the first state and moved to the second."""
        seen = 0
        for source, target in itertools.product(STATES[kind], STATES[kind]):
            allowed = source == target or target in TABLES[kind][source]
            try:
                with database.write() as tx:
                    for table in ("delivery", "job", "series"):
                        tx.run(f"DELETE FROM {table}")  # noqa: S608 (fixed names)
                    tx.run(SERIES, ("1", source if kind == "series" else "READY"))
                    if kind != "series":
                        tx.run(JOB, ("0" * 16, source if kind == "job" else "SENDING"))
                    if kind == "delivery":
                        tx.run(DELIVERY, (source,))
                    tx.run(f"UPDATE {kind} SET state = ?", (target,))  # noqa: S608 (fixed names)
            except IllegalTransition:
                assert not allowed, (source, target)
            else:
                assert allowed, (source, target)
            seen += 1
        assert seen == len(STATES[kind]) ** 2

    def test_a_series_has_one_computing_job_and_no_unknown_states(self, database: Database) -> None:
        with database.write() as tx:
            tx.run(SERIES, ("1", "READY"))
            tx.run(JOB, ("0" * 16, "QUEUED"))
        with pytest.raises(IllegalTransition), database.write() as tx:
            tx.run(JOB, ("1" * 16, "REVIEW"))
        with pytest.raises(IllegalTransition), database.write() as tx:
            tx.run("UPDATE job SET state = 'LOST'")
        with pytest.raises(IllegalTransition), database.write() as tx:
            tx.run("UPDATE job SET state = 'FAILED', note = ''")


class TestRaces:
    """Two processes on one database: each thread opens it as a process of its own would."""

    def test_what_was_read_in_a_transaction_still_holds_when_it_writes(self, ground: Ground) -> None:
        database = ground.open()
        with database.write() as tx:
            tx.run(SERIES, ("1", "RECEIVING"))

        def count() -> None:
            own = ground.open()
            for _ in range(25):
                with own.write() as tx:
                    ((revision,),) = tx.rows("SELECT revision FROM series")
                    tx.run("UPDATE series SET revision = ?", (revision + 1,))
            own.close()

        assert at_once(*[count] * 4) == []
        with database.write() as tx:
            assert tx.rows("SELECT revision FROM series") == [(101,)]
        database.close()

    def test_the_same_instance_from_two_receivers_is_one_and_another_content_a_conflict(
        self, ground: Ground
    ) -> None:
        def accept(content: str) -> Callable[[], None]:
            def run() -> None:
                store = Store(ground.open())
                for number in range(10):
                    store.accept(an_instance(number, "b" if number == 9 and content == "b" else "a"))
                store.close()

            return run

        assert at_once(accept("a"), accept("a"), accept("b")) == []
        store = Store(ground.open())
        assert len(store.instances_of("1.2")) == 11
        assert store.one_series("1.2").state is SeriesState.CONFLICT
        store.close()

    def test_a_series_is_judged_once_or_a_late_slice_is_seen(self, ground: Ground) -> None:
        """However slices and verdicts fall together: one job computes, and it is of the last revision."""
        first = Store(ground.open())
        first.accept(an_instance(0))

        def judge() -> None:
            store = Store(ground.open())
            for n in range(20):
                seen = store.one_series("1.2")
                content = f"{len(store.instances_of('1.2')):064x}"
                job = NewJob(series_uid="1.2", content_sha256=content, bundles=("b",), slices=n + 1)
                if seen.state is SeriesState.RECEIVING:
                    store.judge(seen, SeriesState.READY, job=job)
            store.close()

        def arrive() -> None:
            store = Store(ground.open())
            for number in range(1, 15):
                store.accept(an_instance(number))
            store.close()

        assert at_once(judge, judge, arrive) == []
        judge()
        jobs = first.jobs(states=(JobState.QUEUED,))
        assert [job.content_sha256 for job in jobs] == [f"{15:064x}"]
        assert {job.state for job in first.jobs()} <= {JobState.QUEUED, JobState.SUPERSEDED}
        assert first.one_series("1.2").state is SeriesState.READY
        first.close()

    def test_deliveries_that_end_together_end_the_job_once(self, ground: Ground) -> None:
        store = Store(ground.open())
        store.accept(an_instance(0))
        new = NewJob(series_uid="1.2", content_sha256="c" * 64, bundles=("b",), slices=1)
        store.judge(store.one_series("1.2"), SeriesState.READY, job=new)
        for state in PATH_TO_SENDING:
            store.move(new.job_id, state, "")
        item = OutputObject(role="SEG", path="SEG.dcm", sop_uid="1.9")
        places = [f"place-{n}" for n in range(6)]
        store.begin_sending(new.job_id, [(item, name) for name in places])

        def deliver(name: str) -> Callable[[], None]:
            def run() -> None:
                own = Store(ground.open())
                for delivery in own.claim(new.job_id, name):
                    own.record_delivery(delivery, DeliveryState.STORED, status=0, note="", next_at=NOW)
                own.close()

            return run

        assert at_once(*map(deliver, places)) == []
        assert store.job(new.job_id).state is JobState.DONE
        changes = [e.change for e in store.events(new.job_id) if e.kind == "job"]
        assert changes.count("SENDING -> DONE") == 1
        store.close()

    def test_a_job_is_begun_by_one_of_two(self, ground: Ground) -> None:
        store = Store(ground.open())
        store.accept(an_instance(0))
        new = NewJob(series_uid="1.2", content_sha256="c" * 64, bundles=("b",), slices=1)
        store.judge(store.one_series("1.2"), SeriesState.READY, job=new)
        store.move(new.job_id, JobState.PREPARING, "")

        def fail() -> None:
            with closing(Store(ground.open())) as own:
                own.requeue(own.move(new.job_id, JobState.RETRY_WAIT, "x"), "again")
                own.move(new.job_id, JobState.PREPARING, "on")

        raised = at_once(fail, lambda: store.move(new.job_id, JobState.CANCELLED, "by a person") and None)
        assert all(isinstance(error, IllegalTransition) for error in raised)
        assert store.job(new.job_id).state is JobState.CANCELLED
        store.close()


class TestPostgres:
    """What only a server does: it goes away."""

    @pytest.fixture
    def server(self, postgres: Cluster) -> Server:
        return postgres.new_database()

    def test_a_lost_connection_is_opened_again_before_anybody_notices(
        self, postgres: Cluster, server: Server
    ) -> None:
        store = Store(Database(server))
        store.accept(an_instance(0))
        assert postgres.cut_connections(server) >= 1
        assert store.one_series("1.2").instances == 1
        assert postgres.cut_connections(server) >= 1
        assert store.accept(an_instance(1)) is SeriesState.RECEIVING
        store.close()

    def test_a_connection_lost_within_a_transaction_is_an_error_and_nothing_happened(
        self, postgres: Cluster, server: Server
    ) -> None:
        database = Database(server)

        def interrupted() -> None:
            with database.write() as tx:
                tx.run(SERIES, ("1", "RECEIVING"))
                postgres.cut_connections(server)

        with pytest.raises(DatabaseUnreachable):
            interrupted()
        with database.write() as tx:
            assert tx.rows("SELECT * FROM series") == []
        database.close()

    def test_a_lost_server_is_reported_without_the_password_and_found_again(
        self, postgres: Cluster, server: Server
    ) -> None:
        database = Database(server)
        postgres.crash()
        try:
            with pytest.raises(DatabaseUnreachable) as caught, database.write():
                pass
            assert server.password not in f"{caught.value} {server} {server!r} {server.description}"
            assert f"127.0.0.1:{postgres.port}" in str(caught.value)
        finally:
            postgres.start()
        with database.write() as tx:
            assert tx.rows("SELECT * FROM series") == []
        database.close()

    def test_a_wrong_password_and_a_missing_database_are_reported(self, server: Server) -> None:
        for wrong in (replace(server, password="x" * 3), replace(server, url=f"{server.url}x")):
            with pytest.raises(DatabaseUnreachable):
                Database(wrong)

    def test_commits_are_durable_whatever_the_server_is_set_to(
        self, postgres: Cluster, server: Server
    ) -> None:
        with postgres.admin() as connection:
            connection.execute("ALTER ROLE orgseg SET synchronous_commit = off")
        try:
            database = Database(server)
            with database.write() as tx:
                assert tx.rows("SHOW synchronous_commit") == [("on",)]
            database.close()
        finally:
            with postgres.admin() as connection:
                connection.execute("ALTER ROLE orgseg RESET synchronous_commit")

    def test_a_transaction_within_a_transaction_is_refused_and_reading_sees_what_is_not_committed(
        self, server: Server
    ) -> None:
        store = Store(Database(server))
        with store._db.write() as tx:
            tx.run(SERIES, ("1", "RECEIVING"))
            assert [series.series_uid for series in store.series()] == ["1"]
            with pytest.raises(StorageError, match="inside"), store._db.write():
                pass
        assert store.one_series("1").revision == 1
        store.close()

    def test_the_history_cannot_be_emptied_by_whoever_looks_later(
        self, postgres: Cluster, server: Server
    ) -> None:
        Database(server).close()
        name = server.url.rpartition("/")[2]
        with postgres.admin(name) as connection:
            connection.execute("SET search_path = public")
            with pytest.raises(psycopg.IntegrityError, match="never"):
                connection.execute("TRUNCATE orgseg.event")
            connection.execute(
                "INSERT INTO orgseg.series (series_uid, state, calling_ae, created_at, last_received_at)"
                " VALUES ('1', 'RECEIVING', 'A', 't', 't')"
            )
            with pytest.raises(psycopg.IntegrityError, match="illegal"):
                connection.execute("UPDATE orgseg.series SET state = 'CONFLICT', reason = 'r';"
                                   " UPDATE orgseg.series SET state = 'READY'")  # fmt: skip
