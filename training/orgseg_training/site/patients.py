"""Which patient a case is of: keyed hashes for all files, and one map that only its owner can read."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from orgseg_node.durable import storage_error, write_durably
from orgseg_node.errors import StorageError
from orgseg_training.durable import encode_json, read_json
from orgseg_training.errors import CaseUnknown

_OWNER_ONLY: Final = 0o600
_SECRET_BYTES: Final = 32


def make_secret(path: Path) -> None:
    """Write a new key for the hashes; an existing one stays. Raises DiskFull or NotDurable."""
    if not path.exists():
        write_durably(path, secrets.token_hex(_SECRET_BYTES).encode(), mode=_OWNER_ONLY)


def read_secret(path: Path) -> bytes:
    """The key for the hashes. Raises StorageError if it is missing or damaged."""
    try:
        secret = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError) as error:
        raise StorageError(f"{path.name}, the key of the patients' hashes, cannot be read.") from error
    if len(secret) != _SECRET_BYTES:
        raise StorageError(f"{path.name}, the key of the patients' hashes, is damaged.")
    return secret


def patient_hash(secret: bytes, patient_id: str) -> str:
    """Keyed hash of a Patient ID: the same for the same patient, and of no use without the key."""
    return hmac.new(secret, patient_id.strip().encode(), hashlib.sha256).hexdigest()[:32]


class PatientMap:
    """The map from case keys to Patient IDs.

    Parameters
    ----------
    path : the file; it is readable only by its owner
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, str]:
        """The Patient ID by case key; empty if there is no map yet. Raises StorageError if it is damaged."""
        if not self.path.exists():
            return {}
        content = read_json(self.path)
        if not isinstance(content, dict):
            raise StorageError(f"{self.path.name} is damaged.")
        return content

    def add(self, entries: Mapping[str, str]) -> None:
        """Add cases; others stay. Raises DiskFull, NotDurable or StorageError."""
        known = self.read()
        if entries.items() <= known.items() and self._is_private():
            return
        write_durably(self.path, encode_json({**known, **entries}), mode=_OWNER_ONLY)

    def patient_id(self, key: str) -> str:
        """The Patient ID of a case, found by its whole key or by the part after the data set's name.

        Raises
        ------
        CaseUnknown
            If no case, or more than one, has this key.
        StorageError
            If the map is damaged.
        """
        known = self.read()
        found = [known[key]] if key in known else [v for k, v in known.items() if k.split("__")[-1] == key]
        if len(found) != 1:
            raise CaseUnknown(f"{key}.")
        return found[0]

    def _is_private(self) -> bool:
        try:
            return self.path.exists() and self.path.stat().st_mode & 0o077 == 0
        except OSError as error:
            raise storage_error(error) from error
