"""Canonical JSON, and hashes of it, with and without a key: equal content gives equal text."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from orgseg_node.durable import write_durably
from orgseg_node.errors import StorageError

HISTORY_KEY: Final = "history.key"
_KEY_BYTES: Final = 32
_GROUP_WRITES: Final = 0o020


def canonical(content: Any) -> str:
    """Content as JSON with sorted keys and without spaces."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def short_hash(content: Mapping[str, Any]) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of the canonical JSON."""
    return hashlib.sha256(canonical(content).encode()).hexdigest()[:16]


def event_values(row: Sequence[Any]) -> list[Any]:
    """The values of an event that are hashed, its time in one form, however the database writes it.

    Parameters
    ----------
    row : number, time, kind, subject, change and note
    """
    number, at, *rest = row
    moment = at if isinstance(at, datetime) else datetime.fromisoformat(at)
    return [number, moment.isoformat(timespec="milliseconds"), *rest]


class HistoryKey:
    """The key with which the node marks the events that it writes; a file that only its user reads.

    Parameters
    ----------
    path : the file; None to mark nothing
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._key = b""

    @property
    def is_wanted(self) -> bool:
        """Whether events are marked."""
        return self._path is not None

    def read(self) -> bool:
        """Read the file; whether it exists. Raises StorageError if it exists and cannot be read."""
        if self._path is None:
            return False
        try:
            self._key = bytes.fromhex(self._path.read_text(encoding="ascii"))
        except FileNotFoundError:
            return False
        except (OSError, ValueError) as error:
            raise StorageError(f"The key of the history, {self._path.name}, cannot be read.") from error
        return True

    def read_or_make(self) -> None:
        """Read the file, or make it. Raises StorageError."""
        if self._path is not None and not self.read():
            folder = self._path.parent.stat()
            self._key = secrets.token_bytes(_KEY_BYTES)
            mode = 0o660 if folder.st_mode & _GROUP_WRITES else 0o600
            write_durably(self._path, self._key.hex().encode(), mode=mode)
            if os.geteuid() == 0:  # a command of the administrator: the node has to read it too
                os.chown(self._path, folder.st_uid, folder.st_gid)

    def code(self, *values: Any) -> str:
        """The keyed hash (HMAC-SHA-256) of some values."""
        return hmac.new(self._key, canonical(values).encode(), hashlib.sha256).hexdigest()

    def is_code(self, code: str | None, *values: Any) -> bool:
        """Whether a text is the keyed hash of some values; never without a key."""
        return bool(self._key) and code is not None and hmac.compare_digest(code, self.code(*values))
