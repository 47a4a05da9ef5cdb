"""Datasets while they arrive: small ones in memory, large ones in a file, so that memory does not limit them.

pynetdicom collects the dataset of a message in memory, in several copies of up to a gigabyte. Here a dataset
of C-STORE goes on in a file after the first megabyte. The file begins with the file meta information, so it
only has to be renamed to be stored.
"""

from __future__ import annotations

import io
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Final

from pydicom.uid import UID
from pynetdicom.dimse_messages import C_STORE_RQ, DIMSEMessage

from orgseg_node import durable
from orgseg_node.dicom.reading.part10 import Encoded, EncodedFile, part10_head, read_header

RECEIVED: Final = ".received"
"""Beginning of the names of files with datasets that arrive; deleted when the node starts."""

_IN_MEMORY: Final = 1 << 20
_OTHER_IN_MEMORY: Final = 1 << 23  # a message other than C-STORE is never in a file


class ReceivedDataset(io.BytesIO):
    """Collects bytes that arrive, the first in memory and, if there are many, all of them in a file.

    Parameters
    ----------
    folder : for the file
    head : returns the bytes with which the file begins, before what arrives
    in_memory : returns how many bytes are kept in memory
    """

    def __init__(
        self,
        folder: Path,
        *,
        head: Callable[[], bytes] = bytes,
        in_memory: Callable[[], int] = lambda: _IN_MEMORY,
    ) -> None:
        super().__init__()
        self._folder = folder
        self._head = head
        self._in_memory = in_memory
        self._file: BinaryIO | None = None
        self._path: Path | None = None
        self._start = 0
        self._count = 0
        self._error: OSError | None = None

    @property
    def count(self) -> int:
        """How many bytes have arrived."""
        return self._count

    def write(self, data: Any, /) -> int:
        """Add bytes; if the disk fails, that is reported when the dataset is used."""
        self._count += len(data)
        if self._error is not None:
            return len(data)
        try:
            if self._file is None and self._count > self._in_memory():
                self._open()
            if self._file is None:
                return super().write(data)
            return self._file.write(data)
        except OSError as error:
            self._error = error
            self.discard()
            return len(data)

    @property
    def encoded(self) -> Encoded:
        """What has arrived. Raises DiskFull or NotDurable if it could not be written."""
        if self._file is not None and self._error is None:
            try:
                self._file.flush()
            except OSError as error:
                self._error = error
        if self._error is not None:
            self.discard()
            raise durable.storage_error(self._error)
        if self._path is None:
            return self.getvalue()
        return EncodedFile(path=self._path, start=self._start)

    def discard(self) -> None:
        """Delete the file if it was not renamed."""
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                file.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _open(self) -> None:
        path = self._folder / f"{RECEIVED}.{secrets.token_hex(8)}{durable.PART}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o660)
        self._path, self._file = path, os.fdopen(descriptor, "wb")
        head = self._head()
        self._start = len(head)
        self._file.write(head)
        self._file.write(self.getbuffer())
        self.seek(0)
        self.truncate()


def write_large_to_files(association: Any, folder: Path) -> None:
    """From now on, write large datasets of C-STORE that an association receives to files.

    Parameters
    ----------
    association : of pynetdicom
    folder : for the files
    """
    dimse = association.dimse
    plain = dimse.receive_primitive

    def receive(primitive: Any) -> None:
        if dimse.message is None:
            message: Any = DIMSEMessage()
            message.data_set = ReceivedDataset(
                folder,
                head=lambda: _head(association, message),
                in_memory=lambda: _IN_MEMORY if isinstance(message, C_STORE_RQ) else _OTHER_IN_MEMORY,
            )
            dimse.message = message
        plain(primitive)

    dimse.receive_primitive = receive


def incomplete_series(association: Any) -> str:
    """Series Instance UID of the image that was arriving when an association ended; empty if there is none.

    It is empty too if the image was cut before its UIDs, which are in its first bytes.
    """
    message = association.dimse.message
    dataset = getattr(message, "data_set", None)
    if not isinstance(dataset, ReceivedDataset) or not dataset.count:
        return ""
    try:
        syntax = association._accepted_cx[message.context_id].transfer_syntax[0]  # noqa: SLF001
        return read_header(dataset.encoded, str(syntax)).series_uid
    except Exception:  # noqa: BLE001  # the sender decides what is in it, and where it ends
        return ""


def discard_incomplete(association: Any) -> None:
    """Delete the files of datasets that an association that has ended brought and nobody handles."""
    dimse = association.dimse
    arrived = [message for _, message in list(dimse.msg_queue.queue)]
    waiting = [getattr(message, "DataSet", None) for message in arrived]
    for dataset in (getattr(dimse.message, "data_set", None), *waiting):
        if isinstance(dataset, ReceivedDataset):
            dataset.discard()


def _head(association: Any, message: Any) -> bytes:
    """Preamble and file meta information of the dataset of a C-STORE request; empty if it is not known."""
    try:
        command = message.command_set
        syntax = UID(association._accepted_cx[message.context_id].transfer_syntax[0])  # noqa: SLF001
        return part10_head(str(command.AffectedSOPClassUID), str(command.AffectedSOPInstanceUID), str(syntax))
    except Exception:  # noqa: BLE001  # the caller decides what is in the request
        return b""
