"""Passwords: which are accepted, and their argon2id hashes (RFC 9106)."""

from __future__ import annotations

import threading
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError

from orgseg_node.errors import PasswordRefused

SHORTEST: Final = 12
LONGEST: Final = 200
_FEWEST_DIFFERENT: Final = 6
_AT_ONCE: Final = 2

_hasher: Final = PasswordHasher()
_turns: Final = threading.BoundedSemaphore(_AT_ONCE)
"""Each hash needs 64 MiB and a core for a moment; those who try many at once wait."""

UNKNOWN: Final = _hasher.hash("no account has this password")
"""A hash to compare with if there is no account, so that the answer takes as long as for one."""


def check_password(password: str, name: str) -> None:
    """Refuse a password that is easily guessed.

    Parameters
    ----------
    password : the new password
    name : of the account

    Raises
    ------
    PasswordRefused
        With the reason.
    """
    if not SHORTEST <= len(password) <= LONGEST:
        raise PasswordRefused(f"It needs {SHORTEST} to {LONGEST} characters.")
    if name.casefold() in password.casefold():
        raise PasswordRefused("It contains the name of the account.")
    if len(set(password)) < _FEWEST_DIFFERENT:
        raise PasswordRefused(f"It needs at least {_FEWEST_DIFFERENT} different characters.")


def hash_password(password: str) -> str:
    """The argon2id hash of a password, with its parameters and a salt of its own."""
    with _turns:
        return _hasher.hash(password)


def is_password(password: str, stored: str) -> bool:
    """Whether a password is the one of a stored hash."""
    if len(password) > LONGEST:
        return False
    with _turns:
        try:
            return _hasher.verify(stored, password)
        except (VerifyMismatchError, VerificationError, InvalidHashError):
            return False
