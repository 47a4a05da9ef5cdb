"""The secret key with which names of persons become numbers, on this node always the same."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path
from typing import Final

from orgseg_node.durable import make_folder, write_durably
from orgseg_node.errors import StorageError
from orgseg_node.node.store.data_folder import FEEDBACK

_NAME: Final = "planner.key"
_BYTES: Final = 32
_GROUP_WRITES: Final = 0o020


class PlannerKey:
    """Numbers for names of persons, by a keyed hash; without the key a number leads to no name.

    Parameters
    ----------
    data : the node's data folder; the key is made there when it is first needed
    """

    def __init__(self, data: Path) -> None:
        self._path = data / FEEDBACK / _NAME

    def code(self, person: str) -> str:
        """The number of a person, 12 hexadecimal digits, whatever case and blanks. Raises StorageError."""
        name = " ".join(person.replace("^", " ").casefold().split())
        return hmac.new(self._key(), name.encode(), hashlib.sha256).hexdigest()[:12]

    def _key(self) -> bytes:
        try:
            return bytes.fromhex(self._path.read_text(encoding="ascii"))
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:
            raise StorageError(f"{_NAME} in the folder {FEEDBACK} cannot be read.") from error
        make_folder(self._path.parent)
        key = secrets.token_bytes(_BYTES)
        folder = self._path.parent.stat()
        write_durably(self._path, key.hex().encode(), mode=0o660 if folder.st_mode & _GROUP_WRITES else 0o600)
        if os.geteuid() == 0:  # a command of the administrator: the node has to read it too
            os.chown(self._path, folder.st_uid, folder.st_gid)
        return key
