"""PostgreSQL: a server that several processes use. One of the two modules that import a database driver.

Writing transactions first take one lock of the database and so run one after the other, as in SQLite: what a
transaction has read is still true when it writes, no transaction has to be repeated, there is no deadlock,
and events are numbered in the order of their commits. The rows are small and few; slow work (files, network)
is never done inside a transaction.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import psycopg
from psycopg import sql as names
from psycopg.abc import Buffer
from psycopg.adapt import Loader

from orgseg_node.errors import DatabaseUnreachable, IllegalTransition, NeverStarted, StorageError
from orgseg_node.node.config.database import Server
from orgseg_node.node.store.drivers.driver import Cursor, Execute

SCHEMA: Final = "orgseg"
_LOCK: Final = 0x6F7267736567  # "orgseg": the number of the writers' lock
_BEGIN: Final = f"BEGIN; SELECT pg_advisory_xact_lock({_LOCK})"
_IDLE: Final = 8
_SETTINGS: Final = {
    "search_path": SCHEMA,
    "synchronous_commit": "on",
    "lock_timeout": "10s",
    # a process that is stuck in a transaction must not block the others for ever
    "idle_in_transaction_session_timeout": "30s",
    "timezone": "UTC",
}
_NETWORK: Final[dict[str, Any]] = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20000,
    "application_name": "orgseg-node",
}
_MARK: Final = re.compile(r"'(?:[^']|'')*'|\?|%")

Connection = psycopg.Connection[tuple[Any, ...]]


class _Number(Loader):
    """Sums have the type ``numeric``: return an int or a float as SQLite does, not a Decimal."""

    def load(self, data: Buffer) -> int | float:
        text = bytes(data).decode()
        return int(text) if text.lstrip("-").isdigit() else float(text)


class PostgresDriver:
    """A database on a PostgreSQL server, with a pool of connections that all threads share.

    Parameters
    ----------
    server : address and password
    read_only : allow no change; the schema must exist
    """

    dialect = "postgres"

    def __init__(self, server: Server, *, read_only: bool) -> None:
        self._server = server
        self._read_only = read_only
        self._idle: list[Connection] = []
        self._lock = threading.Lock()
        self._local = threading.local()
        if read_only and not self.query("SELECT to_regclass('schema_step') IS NOT NULL", ()).fetchall()[0][0]:
            self.close()
            raise NeverStarted(f"There is no node database: {server.description}.")

    # ------------------------------------------------------------------ connections

    def _connect(self) -> Connection:
        settings = dict(_SETTINGS)
        if self._read_only:
            settings["default_transaction_read_only"] = "on"
        connection = psycopg.connect(
            self._server.url,
            password=self._server.password or None,
            autocommit=True,
            # values are quoted by the client: the server would have to guess the type of a NULL
            cursor_factory=psycopg.ClientCursor,
            options=" ".join(f"-c {name}={value}" for name, value in settings.items()),
            **_NETWORK,
        )
        connection.adapters.register_loader("numeric", _Number)
        return connection

    def _take(self, *, fresh: bool) -> Connection:
        with self._lock:
            if self._idle and not fresh:
                return self._idle.pop()
        return self._connect()

    def _give_back(self, connection: Connection) -> None:
        with self._lock:
            if not connection.closed and len(self._idle) < _IDLE:
                self._idle.append(connection)
                return
        connection.close()

    def _ask(self, sql: str, parameters: Sequence[Any]) -> tuple[Connection, Cursor]:
        """Execute on an idle connection; on a new one if the first was lost while it was idle."""
        for fresh in (False, True):
            connection = self._take(fresh=fresh)
            try:
                return connection, _execute(connection, sql, parameters)
            except BaseException as error:
                lost = connection.closed
                connection.close()
                if fresh or not lost or not isinstance(error, psycopg.OperationalError):
                    raise
        raise AssertionError  # the second round returns or raises

    def close(self) -> None:
        """Close the idle connections."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    # ------------------------------------------------------------------ use

    @contextmanager
    def transaction(self) -> Iterator[Execute]:
        """One transaction. No other one writes at the same time; it is on disk when the block ends."""
        if getattr(self._local, "connection", None) is not None:
            raise StorageError("A transaction was started inside a transaction.")
        with _translate_errors(self._server):
            connection, _ = self._ask(_BEGIN, ())
            self._local.connection = connection
            try:
                yield partial(_execute, connection)
                _commit(connection)
            except BaseException:
                _roll_back(connection)
                raise
            finally:
                self._local.connection = None
                self._give_back(connection)

    def query(self, sql: str, parameters: Sequence[Any]) -> Cursor:
        """Execute a query, inside the transaction of the calling thread if there is one."""
        with _translate_errors(self._server):
            connection: Connection | None = getattr(self._local, "connection", None)
            if connection is not None:
                return _execute(connection, sql, parameters)
            connection, cursor = self._ask(sql, parameters)
            self._give_back(connection)
            return cursor

    def prepare(self, execute: Execute) -> None:
        """Make the schema if it does not exist."""
        if execute("SELECT to_regnamespace(?) IS NULL", (SCHEMA,)).fetchall()[0][0]:
            execute(f"CREATE SCHEMA {SCHEMA}", ())

    def statements(self, script: str) -> list[str]:
        """The script as it is: the server executes it as a whole."""
        return [script]


def durable(server: Server) -> bool:
    """Whether the server writes commits to its disk (``fsync`` is on). Raises DatabaseUnreachable."""
    driver = PostgresDriver(server, read_only=False)
    try:
        return bool(driver.query("SHOW fsync", ()).fetchall()[0][0] == "on")
    finally:
        driver.close()


def _execute(connection: Connection, sql: str, parameters: Sequence[Any]) -> Cursor:
    if not parameters:
        return connection.execute(names.SQL(sql))
    return connection.execute(names.SQL(_with_percent(sql)), parameters)


def _with_percent(sql: str) -> str:
    """A statement with ``%s`` for each question mark outside of a quoted text."""
    return _MARK.sub(lambda found: {"?": "%s"}.get(found[0], found[0].replace("%", "%%")), sql)


def _commit(connection: Connection) -> None:
    # after an error that the caller ignored, PostgreSQL answers COMMIT with ROLLBACK and without an error
    if connection.execute("COMMIT").statusmessage != "COMMIT":
        raise StorageError("A statement of the transaction had failed; nothing was changed.")


def _roll_back(connection: Connection) -> None:
    try:
        if not connection.closed:
            connection.execute("ROLLBACK")
    except psycopg.Error:
        connection.close()


@contextmanager
def _translate_errors(server: Server) -> Iterator[None]:
    """Translate errors of the driver into the node's own; only the first line, as the others quote rows."""
    try:
        yield
    except psycopg.IntegrityError as error:
        raise IllegalTransition(f"{_line(error)}.") from error
    except psycopg.OperationalError as error:
        raise DatabaseUnreachable(f"{server.description}: {_line(error)}.") from error
    except psycopg.Error as error:
        raise StorageError(f"{_line(error)}.") from error


def _line(error: psycopg.Error) -> str:
    text = error.diag.message_primary or str(error).strip()
    return (text.splitlines() or [type(error).__name__])[0].rstrip(".")
