"""Configuration section ``database``: SQLite in the data folder, or a PostgreSQL server."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import AfterValidator

from orgseg_node.errors import ConfigError
from orgseg_node.node.config.section import Section

SQLITE: Final = Path("db") / "node.sqlite"
"""The database file in the data folder."""

PASSWORD: Final = "ORGSEG_DATABASE_PASSWORD"  # noqa: S105 (the name of a variable)
"""Environment variable with the password; it takes precedence over the password file."""

SCHEMES: Final = ("postgresql", "postgres")


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A database on a PostgreSQL server, and the password of the user in its URL.

    Attributes
    ----------
    url : ``postgresql://user@host:port/name``; ``?host=/folder`` for a socket, and ``sslmode`` and other
        parameters of libpq
    password : never shown, logged or written to a file
    key_file : the key of the history; None to mark no events
    """

    url: str
    password: str = field(default="", repr=False)
    key_file: Path | None = None

    @property
    def description(self) -> str:
        """The server in messages, without user and password."""
        parts = urlsplit(self.url)
        query = dict(parse_qsl(parts.query))
        host = parts.hostname or query.get("host") or "local socket"
        port = f":{parts.port}" if parts.port else ""
        return f"PostgreSQL at {unquote(host)}{port}, database {unquote(parts.path.lstrip('/'))}"


def describe(database: Path | Server) -> str:
    """A database in messages."""
    return database.description if isinstance(database, Server) else f"SQLite, {database}"


def url_problems(url: str) -> list[str]:
    """List what is wrong with the URL of a server, without quoting it: it may hold a password."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return ["is no URL such as postgresql://user@host:5432/orgseg"]
    del port
    if parts.scheme not in SCHEMES:
        return ["must begin with postgresql://, or be empty for SQLite in the data folder"]
    problems = []
    if parts.password is not None or "password" in dict(parse_qsl(parts.query)):
        problems.append("must not hold a password; give password_file or ORGSEG_DATABASE_PASSWORD")
    if not parts.path.lstrip("/") or "/" in parts.path.lstrip("/"):
        problems.append("must end in the name of a database, as in postgresql://user@host:5432/orgseg")
    return problems


def _url(value: str) -> str:
    problems = url_problems(value) if value else []
    if problems:
        raise ValueError("\n".join(problems))
    return value


class DatabaseSection(Section):
    """Where the node stores series, jobs and deliveries.

    Attributes
    ----------
    url : a PostgreSQL server; empty for SQLite in the data folder
    password_file : holds the password of the user in the URL; ORGSEG_DATABASE_PASSWORD takes precedence
    """

    url: Annotated[str, AfterValidator(_url)] = ""
    password_file: Path | None = None

    def resolved(self, base: Path) -> DatabaseSection:
        """The same with an absolute path."""
        if self.password_file is None:
            return self
        return self.model_copy(update={"password_file": base / self.password_file.expanduser()})

    def place(self, data_dir: Path) -> Path | Server:
        """The database without its password: a SQLite file or a server."""
        return Server(url=self.url) if self.url else data_dir / SQLITE

    def location(self, data_dir: Path) -> Path | Server:
        """The database: a SQLite file or a server. Raises ConfigError if the password cannot be read."""
        if not self.url:
            return data_dir / SQLITE
        password = os.environ.get(PASSWORD, "")
        if not password and self.password_file is not None:
            try:
                password = self.password_file.read_text(encoding="utf-8").strip("\r\n")
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError(f"database.password_file: {self.password_file} cannot be read.") from error
        return Server(url=self.url, password=password, key_file=data_dir / "history.key")


def database_problems(data: dict[str, Any], base: Path) -> list[str]:
    """List what is wrong with the files that the section ``database`` names."""
    section = data.get("database")
    name = section.get("password_file") if isinstance(section, dict) else None
    if not isinstance(name, str) or os.environ.get(PASSWORD):
        return []
    path = base / Path(name).expanduser()
    return [] if path.is_file() else [f"database.password_file: there is no file {path}"]
