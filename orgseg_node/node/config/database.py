"""What the configuration says of the database, and of the part this process plays beside others."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import AfterValidator, Field

from orgseg_node.errors import ConfigError
from orgseg_node.node.config.section import Section

SQLITE: Final = Path("db") / "node.sqlite"
PASSWORD: Final = "ORGSEG_DATABASE_PASSWORD"  # noqa: S105 (the name of a variable)

NodeRole = Literal["receiver", "worker"]


def _url(value: str) -> str:
    problems = url_problems(value) if value else []
    if problems:
        raise ValueError("\n".join(problems))
    return value


class DatabaseSection(Section):
    """Where the node keeps what it knows.

    Attributes
    ----------
    url : a PostgreSQL server; empty for SQLite in the data folder
    password_file : holds the password of the user in the URL; ORGSEG_DATABASE_PASSWORD goes before it
    """

    url: Annotated[str, AfterValidator(_url)] = ""
    password_file: Path | None = None

    def resolved(self, base: Path) -> DatabaseSection:
        """The same with its file relative to a folder."""
        if self.password_file is None:
            return self
        return self.model_copy(update={"password_file": base / self.password_file.expanduser()})

    def place(self, data_dir: Path) -> Path | Server:
        """The database itself. Raises ConfigError if the password cannot be read."""
        if not self.url:
            return data_dir / SQLITE
        password = os.environ.get(PASSWORD, "")
        if not password and self.password_file is not None:
            try:
                password = self.password_file.read_text(encoding="utf-8").strip("\r\n")
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError(f"database.password_file: {self.password_file} cannot be read.") from error
        return Server(url=self.url, password=password)


class WorkerSection(Section):
    """What this process does, and its name among several.

    Attributes
    ----------
    name : of this worker, no other's, and the same each time it is started; the host's name when None
    roles : to receive, to contour and deliver, or both
    dead_after_s : a worker of which nothing was heard for so long is dead, on PostgreSQL
    ageing_per_hour : by how much an hour of waiting makes a job more urgent; 0 for strict priorities
    deaths : a job over which so many processes died goes to the dead letter
    spare_child : a process waits for the next job with all its libraries loaded (about 400 MB) and reads
        the series that will be the next job in its quiet time; without it each job takes some seconds longer
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")] | None = None
    roles: Annotated[tuple[NodeRole, ...], Field(min_length=1)] = ("receiver", "worker")
    dead_after_s: Annotated[float, Field(ge=3, le=3600)] = 60.0
    ageing_per_hour: Annotated[float, Field(ge=0, le=1000)] = 10.0
    deaths: Annotated[int, Field(ge=1, le=20)] = 3
    spare_child: bool = True

    @property
    def own_name(self) -> str:
        """The name of this worker."""
        return self.name or socket.gethostname()[:64]


def database_problems(data: dict[str, Any], base: Path) -> list[str]:
    """What is wrong with the files of the section database."""
    section = data.get("database")
    name = section.get("password_file") if isinstance(section, dict) else None
    if not isinstance(name, str) or os.environ.get(PASSWORD):
        return []
    path = base / Path(name).expanduser()
    return [] if path.is_file() else [f"database.password_file: there is no file {path}"]


SCHEMES: Final = ("postgresql", "postgres")


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A database on a PostgreSQL server, and the password of the user in its URL.

    Attributes
    ----------
    url : ``postgresql://user@host:port/name``; ``?host=/folder`` for a socket, ``sslmode`` and the like as
        libpq knows them
    password : never shown, logged or written down
    """

    url: str
    password: str = field(default="", repr=False)

    @property
    def description(self) -> str:
        """The server in words for a person: no user, no password."""
        parts = urlsplit(self.url)
        query = dict(parse_qsl(parts.query))
        host = parts.hostname or query.get("host") or "local socket"
        port = f":{parts.port}" if parts.port else ""
        return f"PostgreSQL at {unquote(host)}{port}, database {unquote(parts.path.lstrip('/'))}"


def describe(place: Path | Server) -> str:
    """A database in words for a person."""
    return place.description if isinstance(place, Server) else f"SQLite, {place}"


def url_problems(url: str) -> list[str]:
    """What is wrong with the URL of a server, in words without the URL itself: it may hold a password."""
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
