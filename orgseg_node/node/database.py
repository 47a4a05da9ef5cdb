"""One SQLite file: connections, transactions that are on the disk when they end, rows as dataclasses.

The only module that imports sqlite3. What the rows mean is said in `orgseg_node.node.store`.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from datetime import datetime
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import Any, Final, TypeVar

from orgseg_node.errors import IllegalTransition, StorageError
from orgseg_node.node.jobs import Delivery, DeliveryState, Job, JobState, Series, SeriesState, transition_rows

T = TypeVar("T")


class Transaction:
    """An open transaction; everything done through it happens as a whole or not at all."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def run(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Change rows; how many."""
        return self._connection.execute(sql, parameters).rowcount

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Read rows as tuples."""
        return [tuple(row) for row in self._connection.execute(sql, parameters)]


class Database:
    """A SQLite file with the node's schema; one connection for each thread.

    Parameters
    ----------
    path : the file; made if it is not there
    read_only : look only; the file must be there
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self._path = path
        self._read_only = read_only
        self._local = threading.local()
        if read_only and not path.exists():
            raise StorageError(f"There is no node database in {path.parent.parent}.")
        if not read_only:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._create()

    def _connect(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            mode = "ro" if self._read_only else "rwc"
            connection = sqlite3.connect(
                f"{self._path.resolve().as_uri()}?mode={mode}", uri=True, timeout=10, isolation_level=None
            )
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA foreign_keys = ON")
            if not self._read_only:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
            self._local.connection = connection
        return connection

    def close(self) -> None:
        """Close the connection of the calling thread."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            del self._local.connection

    def _create(self) -> None:
        try:
            version = int(self._connect().execute("PRAGMA user_version").fetchone()[0])
            steps = schema_steps()
            if version > len(steps):
                raise StorageError(
                    f"The database has version {version}, newer than this program's {len(steps)}."
                )
            for number, text in enumerate(steps[version:], start=version + 1):
                self._connect().executescript(
                    f"BEGIN IMMEDIATE; {text} PRAGMA user_version = {number}; COMMIT;"
                )
        except sqlite3.Error as error:
            raise StorageError(f"{self._path.name}: {error}.") from error
        with self.write() as tx:
            tx.run("DELETE FROM allowed_transition")
            for row in transition_rows():
                tx.run("INSERT INTO allowed_transition VALUES (?, ?, ?)", row)

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """One transaction, durable when the block ends; nothing of it happens if it raises.

        Raises
        ------
        IllegalTransition
            If a rule of the schema forbids it.
        StorageError
            If the database cannot be written.
        """
        try:
            connection = self._connect()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield Transaction(connection)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except sqlite3.IntegrityError as error:
            raise IllegalTransition(f"{error}.") from error
        except sqlite3.Error as error:
            raise StorageError(f"{error}.") from error

    def read(self, kind: type[T], sql: str, parameters: Sequence[Any] = ()) -> list[T]:
        """Rows as dataclasses of one kind. Raises StorageError if the database cannot be read."""
        try:
            return [_record(kind, row) for row in self._connect().execute(sql, parameters)]
        except sqlite3.Error as error:
            raise StorageError(f"{error}.") from error


def schema_steps() -> list[str]:
    """The SQL that makes the schema, step by step; a database remembers how many it has gone through.

    A step that was released is never changed: what a later version needs is a step of its own.
    """
    folder = resources.files("orgseg_node.node").joinpath("schema")
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda f: f.name)
    return [file.read_text(encoding="utf-8") for file in files]


def marks(items: Collection[object]) -> str:
    """So many question marks, for an SQL list."""
    return ", ".join("?" * len(items))


_TEXT_TO: Final[dict[str, Callable[[str], object]]] = {
    "created_at": datetime.fromisoformat,
    "updated_at": datetime.fromisoformat,
    "purged_at": datetime.fromisoformat,
    "received_at": datetime.fromisoformat,
    "last_received_at": datetime.fromisoformat,
    "next_attempt_at": datetime.fromisoformat,
    "first_attempt_at": datetime.fromisoformat,
    "at": datetime.fromisoformat,
    "bundles": lambda text: tuple(text.split(",")),
    "destinations": lambda text: tuple(text.split(",")) if text else (),
    "review": bool,
}
_STATES: Final[dict[type, type[StrEnum]]] = {Series: SeriesState, Job: JobState, Delivery: DeliveryState}


def _record(kind: type[T], row: sqlite3.Row) -> T:
    """A row of the database as the dataclass it stands for."""
    values: dict[str, Any] = {}
    for field in fields(kind):  # type: ignore[arg-type]  # every kind is a dataclass
        value = row[field.name]
        if field.name == "state":
            value = _STATES[kind](value)
        elif value is not None and field.name in _TEXT_TO:
            value = _TEXT_TO[field.name](value)
        values[field.name] = value
    return kind(**values)
