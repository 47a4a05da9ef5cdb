"""The interface between the store and a kind of database (SQLite or PostgreSQL)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol


class Cursor(Protocol):
    """The result of a statement, as in PEP 249."""

    @property
    def rowcount(self) -> int:
        """How many rows the statement changed."""
        ...

    @property
    def description(self) -> Sequence[Sequence[Any]] | None:
        """The columns of the rows; the first item of each is its name."""
        ...

    def fetchall(self) -> list[Any]:
        """The rows."""
        ...


Execute = Callable[[str, Sequence[Any]], Cursor]
"""Execute a statement with its parameters."""


class Driver(Protocol):
    """One kind of database. Methods raise StorageError, or IllegalTransition for a rule of the schema."""

    dialect: str

    def transaction(self) -> AbstractContextManager[Execute]:
        """One transaction. No other one writes at the same time; it is durable when the block ends."""
        ...

    def query(self, sql: str, parameters: Sequence[Any]) -> Cursor:
        """Execute a query, inside the transaction of the calling thread if there is one."""
        ...

    def prepare(self, execute: Execute) -> None:
        """Prepare a new database for the schema."""
        ...

    def statements(self, script: str) -> list[str]:
        """A script in parts that can be executed one by one."""
        ...

    def close(self) -> None:
        """Close the connections that the calling thread no longer needs."""
        ...
