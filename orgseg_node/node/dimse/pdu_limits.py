"""Limits on what one connection may send, so that no caller can use up memory or hold a connection for ever.

pynetdicom reads whatever length a PDU announces, up to 4 GiB, however slowly it arrives. Here a PDU may be
little longer than negotiated, must be complete in time, and the PDUs of one message must not exceed the
largest accepted instance. A caller that exceeds a limit is disconnected.
"""

from __future__ import annotations

import contextlib
import errno
import queue
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import structlog

from orgseg_node.node.dimse.association_pdus import make_readable

MAX_PDU_LENGTH: Final = 1 << 20
"""Longest PDU that is read, in bytes: four times the usual maximum (PS3.8 D.1), and more than any association
request needs."""

_HEADER_BYTES: Final = 6

_log = structlog.get_logger("orgseg.receiver")


@dataclass(kw_only=True, slots=True)
class ConnectionLimits:
    """Reads from the socket of one association within limits.

    Attributes
    ----------
    connection : pynetdicom's socket of the association
    pdu_s : time limit for a PDU that has begun, in seconds
    message_bytes : largest accepted message, command and dataset together
    clock : seconds that only increase
    was_closed : whether the caller exceeded a limit and was disconnected
    was_requested : whether its association request could be read, or it was reported that it could not
    """

    connection: Any
    pdu_s: float
    message_bytes: int
    clock: Callable[[], float] = time.monotonic
    was_closed: bool = False
    was_requested: bool = False
    _received: int = 0

    @property
    def has_received(self) -> bool:
        """Whether more than the beginning of a PDU has been asked for."""
        return self._received > _HEADER_BYTES

    def message_ended(self) -> None:
        """A message is complete: the next may be as large again."""
        self._received = 0

    def recv(self, count: int) -> bytearray:
        """Read a number of bytes; fewer only if the connection ended. Raises OSError or TimeoutError."""
        self._received += count
        if count > MAX_PDU_LENGTH:
            raise self._close(errno.EMSGSIZE, f"a PDU of {count} bytes was announced")
        if self._received > self.message_bytes:
            raise self._close(errno.EMSGSIZE, f"a message exceeded {self.message_bytes} bytes")
        plain: socket.socket = self.connection.socket
        before, end = plain.gettimeout(), self.clock() + self.pdu_s
        content, done = bytearray(count), 0
        try:
            while done < count:
                left = end - self.clock()
                if left <= 0:
                    raise self._close(errno.ETIMEDOUT, f"a PDU was not complete within {self.pdu_s:g} s")
                plain.settimeout(left)
                try:
                    got = plain.recv_into(memoryview(content)[done:])
                except TimeoutError:
                    continue
                if not got:
                    break
                done += got
        finally:
            with contextlib.suppress(OSError):
                plain.settimeout(before)
        return content[:done]

    def _close(self, number: int, why: str) -> OSError:
        """Close the connection; the error to be raised."""
        _log.warning("connection closed", why=why)
        self.was_closed = True
        with contextlib.suppress(OSError):
            self.connection.socket.shutdown(socket.SHUT_RDWR)
        return OSError(number, why)


def limit_connection(connection: Any, *, pdu_s: float, message_bytes: int) -> None:
    """Apply limits to everything that is read from a connection from now on.

    Parameters
    ----------
    connection : pynetdicom's socket of an association
    pdu_s : time limit for a PDU that has begun, in seconds
    message_bytes : largest accepted message, command and dataset together
    """
    limits = ConnectionLimits(connection=connection, pdu_s=pdu_s, message_bytes=message_bytes)
    connection.limits, connection.recv = limits, limits.recv
    make_readable(connection, MAX_PDU_LENGTH)


def message_ended(connection: Any) -> None:
    """A message on a connection is complete: reset its limit, if it has one."""
    limits = getattr(connection, "limits", None)
    if isinstance(limits, ConnectionLimits):
        limits.message_ended()


def request_read(connection: Any) -> bool:
    """Note that the association request of a connection was read; whether one that was unreadable came."""
    limits = getattr(connection, "limits", None)
    if not isinstance(limits, ConnectionLimits) or limits.was_requested:
        return False
    limits.was_requested = True
    return limits.has_received


def release(association: Any) -> None:
    """Release the memory of what a disconnected caller had sent.

    pynetdicom's associations refer to themselves, so Python would release it only at the next garbage
    collection.
    """
    limits = getattr(association.dul.socket, "limits", None)
    if not (isinstance(limits, ConnectionLimits) and limits.was_closed):
        return
    association.dimse.message = None
    with contextlib.suppress(queue.Empty):
        while True:
            association.dul.to_user_queue.get_nowait()
