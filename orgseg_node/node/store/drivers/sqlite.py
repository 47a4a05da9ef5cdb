"""SQLite: one file, a connection for each thread. One of the two modules that import a database driver."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from orgseg_node.errors import DiskFull, IllegalTransition, NeverStarted, StorageError
from orgseg_node.node.store.drivers.driver import Cursor, Execute

_WAIT_S: Final = 10.0


class SqliteDriver:
    """A SQLite file. Transactions begin with BEGIN IMMEDIATE and are on disk when they end.

    Parameters
    ----------
    path : the file; it is made if it does not exist
    read_only : allow no change; the file must exist
    """

    dialect = "sqlite"

    def __init__(self, path: Path, *, read_only: bool) -> None:
        self._path = path
        self._read_only = read_only
        self._local = threading.local()
        if read_only and not path.exists():
            raise NeverStarted(f"There is no node database in {path.parent.parent}.")
        if not read_only:
            try:
                path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            except OSError as error:
                raise StorageError(f"{path.parent}: {error.strerror}.") from error

    def _connect(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            mode = "ro" if self._read_only else "rwc"
            connection = sqlite3.connect(
                f"{self._path.resolve().as_uri()}?mode={mode}",
                uri=True,
                timeout=_WAIT_S,
                isolation_level=None,
            )
            try:
                connection.execute("PRAGMA foreign_keys = ON")
                if not self._read_only:
                    _set_wal(connection)
                    connection.execute("PRAGMA synchronous = FULL")
            except BaseException:
                connection.close()
                raise
            self._local.connection = connection
        return connection

    @contextmanager
    def transaction(self) -> Iterator[Execute]:
        """One transaction; no other one writes at the same time."""
        with self._translate_errors():
            connection = self._connect()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection.execute
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def query(self, sql: str, parameters: Sequence[Any]) -> Cursor:
        """Execute a query, inside the transaction of the calling thread if there is one."""
        with self._translate_errors():
            return self._connect().execute(sql, parameters)

    def prepare(self, execute: Execute) -> None:
        """Do nothing: opening the file makes it."""

    def statements(self, script: str) -> list[str]:
        """A script, cut after each complete statement; a trigger contains semicolons too."""
        found, begun = [], ""
        for line in script.splitlines(keepends=True):
            begun += line
            if sqlite3.complete_statement(begun):
                found.append(begun)
                begun = ""
        return [*found, begun] if begun.strip() else found

    def close(self) -> None:
        """Close the connection of the calling thread."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            del self._local.connection

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.IntegrityError as error:
            raise IllegalTransition(f"{error}.") from error
        except sqlite3.Error as error:
            self.close()  # the file may have been moved or the disk repaired: the next use opens it again
            full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
            raise (DiskFull if full else StorageError)(f"{self._path.name}: {error}.") from error


def _set_wal(connection: sqlite3.Connection) -> None:
    """Switch to the write-ahead log; SQLite itself does not wait for another process that does the same."""
    end = time.monotonic() + _WAIT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > end:
                raise
            time.sleep(0.02)
        else:
            return
