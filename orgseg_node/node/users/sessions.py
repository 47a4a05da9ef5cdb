"""Sessions of persons who have logged in, in the memory of this process; a restart ends them all."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from orgseg_node.node.users.accounts import Account

_MOST_OF_ONE: Final = 10
_MOST: Final = 1000


@dataclass(slots=True)
class Session:
    """One login.

    Attributes
    ----------
    name : of the account
    revision : of the account when the person logged in
    csrf : secret that every command must carry
    began_s, seen_s : monotonic time of the login, and of the last request
    is_proxied : whether a proxy said who the person is; it has to say so with each request
    """

    name: str
    revision: int
    csrf: str
    began_s: float
    seen_s: float
    is_proxied: bool = False

    def is_csrf(self, given: str) -> bool:
        """Whether a request has the secret of this session."""
        return hmac.compare_digest(self.csrf.encode(), given.encode("utf-8", "replace"))


class Sessions:
    """The open sessions.

    Parameters
    ----------
    idle_s : a session ends after this time without a request
    longest_s : a session ends after this time in any case
    clock_s : monotonic time in seconds
    """

    def __init__(
        self, idle_s: float, longest_s: float, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._idle_s = idle_s
        self._longest_s = longest_s
        self._clock_s = clock_s
        self._lock = threading.Lock()
        self._open: dict[str, Session] = {}

    def begin(self, account: Account, *, is_proxied: bool = False) -> str:
        """Open a session with a new secret, which is returned; only its hash is kept.

        Parameters
        ----------
        account : of the person
        is_proxied : whether a proxy said who the person is
        """
        token, now = secrets.token_urlsafe(32), self._clock_s()
        session = Session(
            name=account.name,
            revision=account.revision,
            csrf=secrets.token_urlsafe(32),
            began_s=now,
            seen_s=now,
            is_proxied=is_proxied,
        )
        with self._lock:
            self._drop_ended(now)
            every = sorted((one.seen_s, key, one.name) for key, one in self._open.items())
            own = [item for item in every if item[2] == account.name]
            too_many = [*own[: max(0, len(own) + 1 - _MOST_OF_ONE)], *every[: max(0, len(every) + 1 - _MOST)]]
            for _, key, _ in too_many:
                self._open.pop(key, None)
            self._open[_hash(token)] = session
        return token

    def find(self, token: str, *, is_person: bool = True) -> Session | None:
        """The session of a token; None if there is none, or it has ended.

        Parameters
        ----------
        token : of the cookie
        is_person : whether the person did something; a page that refreshes itself does not keep it open
        """
        now = self._clock_s()
        with self._lock:
            self._drop_ended(now)
            found = self._open.get(_hash(token)) if token else None
            if found is not None and is_person:
                found.seen_s = now
            return found

    def end(self, token: str) -> None:
        """Close a session."""
        with self._lock:
            self._open.pop(_hash(token), None)

    def _drop_ended(self, now: float) -> None:
        ended = [
            key
            for key, one in self._open.items()
            if now - one.seen_s > self._idle_s or now - one.began_s > self._longest_s
        ]
        for key in ended:
            del self._open[key]


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
