"""What every kind of database offers: the seam between the store and SQLite or PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol


class Cursor(Protocol):
    """What a statement gave, as PEP 249 has it."""

    @property
    def rowcount(self) -> int:
        """How many rows it changed."""
        ...

    @property
    def description(self) -> Sequence[Sequence[Any]] | None:
        """The columns of its rows, each with its name first."""
        ...

    def fetchall(self) -> list[Any]:
        """Its rows."""
        ...


Execute = Callable[[str, Sequence[Any]], Cursor]


class Driver(Protocol):
    """One kind of database. Methods raise StorageError, or IllegalTransition for a rule of the schema."""

    dialect: str

    def transaction(self) -> AbstractContextManager[Execute]:
        """One transaction, alone among those that write, and durable when the block ends."""
        ...

    def query(self, sql: str, parameters: Sequence[Any]) -> Cursor:
        """Read, within the transaction of the calling thread if it has one."""
        ...

    def prepare(self, execute: Execute) -> None:
        """Make room for the schema in a new database."""
        ...

    def statements(self, script: str) -> list[str]:
        """A script in parts that can be executed."""
        ...

    def close(self) -> None:
        """Close the connections that the calling thread does not need any more."""
        ...
