"""Accounts: persons with roles and a password, and one-time addresses to log in.

Every change is an event of the history, of kind ``user``; so is every login that was refused.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from orgseg_node.errors import UnknownUser, UserInvalid
from orgseg_node.node.store.clock import Clock, stamp, utc_now
from orgseg_node.node.store.database import Database, Transaction
from orgseg_node.node.users.passwords import UNKNOWN, check_password, hash_password, is_password
from orgseg_node.node.users.roles import Role

KIND: Final = "user"
TICKET_MINUTES: Final = 15

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A person who may log in.

    Attributes
    ----------
    name : with which the person logs in; it is written into the history
    roles : what the person may do
    has_password : whether there is a password; without one, only a one-time address works
    revision : grows with each change, which ends the sessions of the person
    updated_at : time of the last change
    """

    name: str
    roles: frozenset[Role]
    has_password: bool
    revision: int
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    name: str
    roles: str
    password_hash: str
    revision: int
    updated_at: datetime

    @property
    def account(self) -> Account:
        known = {role.value for role in Role}
        return Account(
            name=self.name,
            roles=frozenset(Role(role) for role in self.roles.split(",") if role in known),
            has_password=bool(self.password_hash),
            revision=self.revision,
            updated_at=self.updated_at,
        )


class Accounts:
    """The accounts of a node.

    Parameters
    ----------
    database : the node's database
    clock : source of the time
    """

    def __init__(self, database: Database, *, clock: Clock = utc_now) -> None:
        self._db = database
        self._clock = clock

    def all(self) -> list[Account]:
        """Every account, by name."""
        return [row.account for row in self._db.read(_Row, f"{_SELECT} ORDER BY name")]

    def one(self, name: str) -> Account:
        """The account of this name. Raises UnknownUser."""
        return self._row(name).account

    def add(self, name: str, roles: Collection[Role], note: str, password: str = "") -> Account:
        """Make an account.

        Parameters
        ----------
        name : with which the person logs in
        roles : at least one
        note : who makes it, and why
        password : empty for an account that only a one-time address opens

        Raises
        ------
        UserInvalid
            If the name cannot be used or exists already, or there is no role.
        PasswordRefused
            If the password is easily guessed.
        """
        if not _NAME.fullmatch(name):
            raise UserInvalid("A name has 1 to 64 letters, digits, '.', '_', '-' or '@'.")
        text = _roles_text(roles)
        hashed = _checked_hash(password, name) if password else ""
        now = stamp(self._clock())
        with self._db.write() as tx:
            # one person has one account: names that differ only in capitals would be taken for each other
            if tx.rows("SELECT 1 FROM user_account WHERE lower(name) = ?", (name.lower(),)):
                raise UserInvalid(f"There is an account {name!r} already.")
            tx.run(
                "INSERT INTO user_account (name, roles, password_hash, created_at, updated_at)"
                " VALUES (?, ?, ?, ?, ?)",
                (name, text, hashed, now, now),
            )
            tx.append_event(KIND, name, "added", f"{text}; {note}")
        return self.one(name)

    def set_roles(self, name: str, roles: Collection[Role], note: str) -> Account:
        """Give an account other roles; its sessions end.

        Parameters
        ----------
        name : of the account
        roles : all roles that it has from now on
        note : who changes them, and why

        Raises
        ------
        UnknownUser, UserInvalid
            If there is no such account, or no role.
        """
        text = _roles_text(roles)
        self._change(name, "roles", f"{text}; {note}", {"roles": text})
        return self.one(name)

    def set_password(self, name: str, password: str, note: str) -> Account:
        """Set the password of an account; its sessions end.

        Parameters
        ----------
        name : of the account
        password : the new one
        note : who sets it, and why

        Raises
        ------
        UnknownUser, PasswordRefused
            If there is no such account, or the password is easily guessed.
        """
        found = self._row(name)
        self._change(found.name, "password", note, {"password_hash": _checked_hash(password, found.name)})
        return self.one(name)

    def remove(self, name: str, note: str) -> None:
        """Delete an account; its sessions end, its events stay. Raises UnknownUser."""
        found = self._row(name)
        with self._db.write() as tx:
            tx.run("DELETE FROM login_ticket WHERE name = ?", (found.name,))
            tx.run("DELETE FROM user_account WHERE name = ?", (found.name,))
            tx.append_event(KIND, found.name, "removed", note)

    def authenticate(self, name: str, password: str) -> Account | None:
        """The account, if this is its password; it takes as long if there is no such account."""
        rows = self._find(name)
        stored = rows[0].password_hash if rows and rows[0].password_hash else UNKNOWN
        is_right = is_password(password, stored)
        return rows[0].account if is_right and rows and rows[0].password_hash else None

    def make_ticket(self, name: str, note: str) -> str:
        """Make the secret of a one-time address, valid for some minutes. Raises UnknownUser."""
        found = self._row(name)
        secret, now = secrets.token_urlsafe(32), self._clock()
        with self._db.write() as tx:
            tx.run("DELETE FROM login_ticket WHERE ends_at < ?", (stamp(now),))
            ends_at = stamp(now + timedelta(minutes=TICKET_MINUTES))
            tx.run(
                "INSERT INTO login_ticket (ticket_sha256, name, ends_at) VALUES (?, ?, ?)",
                (_sha256(secret), found.name, ends_at),
            )
            tx.append_event(KIND, found.name, "one-time address", note)
        return secret

    def use_ticket(self, secret: str) -> Account | None:
        """The account of a one-time address, which cannot be used again; None if it is none or too old."""
        with self._db.write() as tx:
            rows = tx.rows(
                "SELECT name, ends_at FROM login_ticket WHERE ticket_sha256 = ?", (_sha256(secret),)
            )
            tx.run("DELETE FROM login_ticket WHERE ticket_sha256 = ?", (_sha256(secret),))
        if not rows or datetime.fromisoformat(rows[0][1]) < self._clock():
            return None
        found = self._find(str(rows[0][0]))
        return found[0].account if found else None

    def record(self, name: str, change: str, note: str) -> None:
        """Append what an account did to the history: logged in, looked at a case.

        Parameters
        ----------
        name : of the account
        change : what happened, in a few words
        note : the rest, without patient data
        """
        with self._db.write() as tx:
            tx.append_event(KIND, name, change, note)

    def _find(self, name: str) -> list[_Row]:
        return self._db.read(_Row, f"{_SELECT} WHERE name = ?", (name,))

    def _row(self, name: str) -> _Row:
        found = self._find(name)
        if not found:
            raise UnknownUser(f"There is no account {name!r}.")
        return found[0]

    def _change(self, name: str, change: str, note: str, values: dict[str, str]) -> None:
        self._row(name)
        with self._db.write() as tx:
            for column, value in values.items():
                tx.run(f"UPDATE user_account SET {column} = ? WHERE name = ?", (value, name))  # noqa: S608  # own names
            _touch(tx, name, stamp(self._clock()))
            tx.append_event(KIND, name, change, note)


_SELECT: Final = "SELECT name, roles, password_hash, revision, updated_at FROM user_account"


def _touch(tx: Transaction, name: str, now: str) -> None:
    tx.run("UPDATE user_account SET revision = revision + 1, updated_at = ? WHERE name = ?", (now, name))
    tx.run("DELETE FROM login_ticket WHERE name = ?", (name,))


def _roles_text(roles: Collection[Role]) -> str:
    if not roles:
        raise UserInvalid("An account needs at least one role.")
    return ",".join(role.value for role in Role if role in roles)


def _checked_hash(password: str, name: str) -> str:
    check_password(password, name)
    return hash_password(password)


def _sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
