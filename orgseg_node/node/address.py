"""Where a PostgreSQL server is, as a URL without a password."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

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
    def said(self) -> str:
        """The server in words for a person: no user, no password."""
        parts = urlsplit(self.url)
        query = dict(parse_qsl(parts.query))
        host = parts.hostname or query.get("host") or "local socket"
        port = f":{parts.port}" if parts.port else ""
        return f"PostgreSQL at {unquote(host)}{port}, database {unquote(parts.path.lstrip('/'))}"


def said(place: Path | Server) -> str:
    """A database in words for a person."""
    return place.said if isinstance(place, Server) else f"SQLite, {place}"


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
