"""The node's database: transactions that are durable when they end, rows as dataclasses.

SQLite and PostgreSQL behave alike: writing transactions run one after the other, so a block may read, decide
and write without regard to other processes. The differences are in `drivers.sqlite` and
`drivers.postgres`, the only modules that import a driver. `orgseg_node.node.store.model`
explains the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import datetime
from enum import Enum, StrEnum
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Final, TypeVar, cast, get_type_hints

from orgseg_node.errors import AuditBroken, DatabaseNewer
from orgseg_node.node.config.database import Server
from orgseg_node.node.store.canonical import HISTORY_KEY, HistoryKey, event_values
from orgseg_node.node.store.drivers.driver import Driver, Execute
from orgseg_node.node.store.model import transition_rows

T = TypeVar("T")

_NEW_EVENTS: Final = "SELECT number, at, kind, subject, change, note FROM event WHERE number > ?"


class Transaction:
    """An open transaction: either all of its statements take effect, or none."""

    def __init__(self, execute: Execute) -> None:
        self._execute = execute

    def run(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Execute a statement that changes rows; returns how many it changed."""
        return self._execute(sql, _plain(parameters)).rowcount

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Execute a query; returns its rows as tuples."""
        return [tuple(row) for row in self._execute(sql, _plain(parameters)).fetchall()]

    def append_event(self, kind: str, subject: str, change: str, note: str) -> None:
        """Append an event to the history.

        Parameters
        ----------
        kind : ``series``, ``job``, ``delivery`` or ``notice``
        subject : Series Instance UID, or number of the job
        change : what happened, in one word
        note : the event as a sentence
        """
        self.run(
            "INSERT INTO event (kind, subject, change, note) VALUES (?, ?, ?, ?)",
            (kind, subject, change, note),
        )


class Database:
    """A database with the node's schema; any thread may use it.

    Parameters
    ----------
    place : a SQLite file, which is made if it does not exist, or a PostgreSQL server
    read_only : allow no change; the database must exist
    """

    def __init__(self, place: Path | Server, *, read_only: bool = False) -> None:
        self._driver = _driver(place, read_only=read_only)
        self._key = HistoryKey(place.key_file if isinstance(place, Server) else place.with_name(HISTORY_KEY))
        if not read_only:
            try:
                self._migrate()
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Close the connections that the calling thread no longer needs; a later use opens new ones."""
        self._driver.close()

    def _migrate(self) -> None:
        """Apply the schema steps that this database does not have yet, in one transaction.

        If two processes start at once, the second waits for the first and finds nothing left to do.
        """
        steps = schema_steps(self._driver.dialect)
        with self._driver.transaction() as execute:
            self._driver.prepare(execute)
            execute("CREATE TABLE IF NOT EXISTS schema_step (name TEXT PRIMARY KEY)", ())
            done = {str(name) for (name,) in execute("SELECT name FROM schema_step", ()).fetchall()}
            unknown = sorted(done - {step.name for step in steps})
            if unknown:
                raise DatabaseNewer(f"It is newer than this program, which does not know step {unknown[-1]}.")
            for step in steps:
                if step.name in done:
                    continue
                for statement in self._driver.statements(step.script):
                    execute(statement, ())
                execute("INSERT INTO schema_step VALUES (?)", (step.name,))
            allowed = set(transition_rows())
            rows = execute("SELECT kind, source, target FROM allowed_transition", ()).fetchall()
            if {tuple(row) for row in rows} != allowed:
                execute("DELETE FROM allowed_transition", ())
                for row in sorted(allowed):
                    execute("INSERT INTO allowed_transition VALUES (?, ?, ?)", row)
            self._begin_marks(Transaction(execute))

    def _begin_marks(self, tx: Transaction) -> None:
        """Read or make the key of the history; note from which event on its events are marked."""
        if not self._key.is_wanted:
            return
        self._key.read_or_make()
        known = tx.rows("SELECT number, code FROM marked_since")
        if any(self._key.is_code(code, "since", int(number)) for number, code in known):
            return
        last = _last_event(tx)
        code = self._key.code("since", last + 1)
        tx.run("INSERT INTO marked_since (number, code) VALUES (?, ?)", (last + 1, code))
        if known:
            note = f"The key of the history is a new one; events up to number {last} cannot be checked by it."
            tx.append_event("audit", "-", "key", note)
            self._mark_events(tx, last)

    def _mark_events(self, tx: Transaction, last: int) -> None:
        """Mark the events that a transaction has appended after this number."""
        if self._key.is_wanted:
            for row in tx.rows(_NEW_EVENTS, (last,)):
                code = self._key.code(*event_values(row))
                tx.run("INSERT INTO event_mark (number, code) VALUES (?, ?)", (row[0], code))

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """One transaction, durable when the block ends, and without any effect if the block raises.

        Other exceptions of the block pass through. If the connection is lost during the commit, the outcome
        is unknown: that is a StorageError as well, never success.

        Raises
        ------
        IllegalTransition
            If a rule of the schema forbids it.
        StorageError
            If the database cannot be written.
        """
        with self._driver.transaction() as execute:
            tx = Transaction(execute)
            last = _last_event(tx)
            yield tx
            self._mark_events(tx, last)

    def own_events(self) -> Callable[[Sequence[Any], str | None], bool]:
        """A function of an event and its mark: whether this node wrote the event.

        Events from before there was a key count as its own; so does every event where none is wanted.

        Raises
        ------
        AuditBroken
            If events are marked and the key is missing, or is not that of any of them.
        """
        if not self._key.is_wanted:
            return lambda _row, _code: True
        since = [(int(n), str(c)) for n, c in self._rows("SELECT number, code FROM marked_since")]
        if not self._key.read() and not since:
            return lambda _row, _code: True
        own = [number for number, code in since if self._key.is_code(code, "since", number)]
        if not own:
            raise AuditBroken(f"{HISTORY_KEY} is missing, or is not the key with which events were marked.")
        first = min(own)
        return lambda row, code: int(row[0]) < first or self._key.is_code(code, *event_values(row))

    def _rows(self, sql: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self._driver.query(sql, ()).fetchall()]

    def read(self, kind: type[T], sql: str, parameters: Sequence[Any] = ()) -> list[T]:
        """Execute a query; returns its rows as dataclasses.

        Parameters
        ----------
        kind : the dataclass; each of its fields is a column of the query
        sql : the query, with ``?`` for each parameter
        parameters : values for the question marks

        Raises
        ------
        StorageError
            If the database cannot be read.
        """
        cursor = self._driver.query(sql, _plain(parameters))
        names = [str(column[0]) for column in cursor.description or ()]
        return [_record(kind, dict(zip(names, row, strict=True))) for row in cursor.fetchall()]


def _last_event(tx: Transaction) -> int:
    ((last,),) = tx.rows("SELECT coalesce(max(number), 0) FROM event")
    return int(last)


def _driver(place: Path | Server, *, read_only: bool) -> Driver:
    if isinstance(place, Server):
        from orgseg_node.node.store.drivers.postgres import PostgresDriver  # noqa: PLC0415  # only if it is used

        return PostgresDriver(place, read_only=read_only)
    from orgseg_node.node.store.drivers.sqlite import SqliteDriver  # noqa: PLC0415  # likewise

    return SqliteDriver(place, read_only=read_only)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A step of the schema, named after its file."""

    name: str
    script: str


def schema_steps(dialect: str) -> list[Step]:
    """The SQL steps that make the schema; a database stores which of them it has.

    ``NNN_name.sql`` is for both kinds of database; ``NNN_name.sqlite.sql`` and ``NNN_name.postgres.sql``
    follow it with the statements that differ. A step that was released is never changed; a later version adds
    a step.
    """
    folder = resources.files("orgseg_node.node.store").joinpath("schema")
    found = []
    for file in folder.iterdir():
        name, *variant = file.name.removesuffix(".sql").split(".")
        if file.name.endswith(".sql") and variant in ([], [dialect]):
            found.append((name, variant, file))
    found.sort(key=lambda item: item[:2])
    return [
        Step(name=".".join((name, *variant)), script=file.read_text(encoding="utf-8"))
        for name, variant, file in found
    ]


def marks(items: Collection[object]) -> str:
    """A question mark for each item, for an SQL list."""
    return ", ".join("?" * len(items))


def _plain(parameters: Sequence[Any]) -> list[Any]:
    """Values in a form that both drivers treat alike: enums as their values, booleans as 0 and 1."""
    values = [value.value if isinstance(value, Enum) else value for value in parameters]
    return [int(value) if isinstance(value, bool) else value for value in values]


_TEXT_TO: Final[dict[str, Callable[[str], object]]] = {
    "created_at": datetime.fromisoformat,
    "updated_at": datetime.fromisoformat,
    "added_at": datetime.fromisoformat,
    "purged_at": datetime.fromisoformat,
    "received_at": datetime.fromisoformat,
    "last_received_at": datetime.fromisoformat,
    "next_attempt_at": datetime.fromisoformat,
    "first_attempt_at": datetime.fromisoformat,
    "delivered_at": datetime.fromisoformat,
    "first_asked_at": datetime.fromisoformat,
    "next_at": datetime.fromisoformat,
    "ends_at": datetime.fromisoformat,
    "at": datetime.fromisoformat,
    "bundles": lambda text: tuple(text.split(",")),
    "destinations": lambda text: tuple(text.split(",")) if text else (),
    "models": lambda text: tuple(text.split(",")) if text else (),
    "review": bool,
    "scan_released": bool,
}


@cache
def _enumerations_of(kind: Hashable) -> dict[str, type[StrEnum]]:
    """The fields of a dataclass that are enumerations, such as ``state``."""
    return {name: hint for name, hint in get_type_hints(kind).items() if _is_enumeration(hint)}


def _is_enumeration(hint: object) -> bool:
    return isinstance(hint, type) and issubclass(hint, StrEnum)


def _record(kind: type[T], row: dict[str, Any]) -> T:
    """A row of the database as a dataclass."""
    values: dict[str, Any] = {}
    enumerations = _enumerations_of(cast(Hashable, kind))
    for field in fields(kind):  # type: ignore[arg-type]  # every kind is a dataclass
        value = row[field.name]
        if field.name in enumerations:
            value = enumerations[field.name](value)
        elif value is not None and field.name in _TEXT_TO:
            value = _TEXT_TO[field.name](value)
        values[field.name] = value
    return kind(**values)
