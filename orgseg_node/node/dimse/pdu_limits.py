"""Reads from one connection within limits, so that no caller can take the node's memory or a place for ever.

pynetdicom reads what a PDU announces, up to 4 GiB and however slowly it comes. Here a PDU may be as long as
was negotiated and some more, must be complete in good time, and the PDUs of one message must not grow beyond
the largest instance that is taken. Whoever breaks a limit is cut off.
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

MAX_PDU_LENGTH: Final = 1 << 20
"""Bytes of the longest PDU read: four times what is negotiated (PS3.8 D.1), and more than any association
request needs."""

_log = structlog.get_logger("orgseg.receiver")


@dataclass(kw_only=True, slots=True)
class ConnectionLimits:
    """Stands before the socket of one association and reads for it.

    Attributes
    ----------
    line : pynetdicom's socket of the association
    pdu_s : so long a PDU that has begun may take
    message_bytes : largest message taken, command and dataset together
    clock : seconds that only go forward
    was_cut : whether the caller broke a limit
    """

    line: Any
    pdu_s: float
    message_bytes: int
    clock: Callable[[], float] = time.monotonic
    was_cut: bool = False
    _taken: int = 0

    def message_ended(self) -> None:
        """A message is complete: the next may be as large again."""
        self._taken = 0

    def recv(self, count: int) -> bytearray:
        """So many bytes; fewer only if the connection ended. Raises OSError or TimeoutError."""
        self._taken += count
        if count > MAX_PDU_LENGTH:
            raise self._cut_off(errno.EMSGSIZE, f"a PDU of {count} bytes was announced")
        if self._taken > self.message_bytes:
            raise self._cut_off(errno.EMSGSIZE, f"a message grew beyond {self.message_bytes} bytes")
        line: socket.socket = self.line.socket
        before, end = line.gettimeout(), self.clock() + self.pdu_s
        content, done = bytearray(count), 0
        try:
            while done < count:
                left = end - self.clock()
                if left <= 0:
                    raise self._cut_off(errno.ETIMEDOUT, f"a PDU was not complete within {self.pdu_s:g} s")
                line.settimeout(left)
                try:
                    got = line.recv_into(memoryview(content)[done:])
                except TimeoutError:
                    continue
                if not got:
                    break
                done += got
        finally:
            with contextlib.suppress(OSError):
                line.settimeout(before)
        return content[:done]

    def _cut_off(self, number: int, why: str) -> OSError:
        """Close the connection; the error that says why."""
        _log.warning("connection cut off", why=why)
        self.was_cut = True
        with contextlib.suppress(OSError):
            self.line.socket.shutdown(socket.SHUT_RDWR)
        return OSError(number, why)


def limit_connection(line: Any, *, pdu_s: float, message_bytes: int) -> None:
    """Let a guard read for a connection from now on."""
    guard = ConnectionLimits(line=line, pdu_s=pdu_s, message_bytes=message_bytes)
    line.guard, line.recv = guard, guard.recv


def message_ended(line: Any) -> None:
    """Tell the guard of a connection, if it has one, that a message is complete."""
    guard = getattr(line, "guard", None)
    if isinstance(guard, ConnectionLimits):
        guard.message_ended()


def release(association: Any) -> None:
    """Give back what a caller who was cut off had sent so far.

    pynetdicom's associations refer to themselves, and would keep it until Python happens to look for such.
    """
    guard = getattr(association.dul.socket, "guard", None)
    if not (isinstance(guard, ConnectionLimits) and guard.was_cut):
        return
    association.dimse.message = None
    with contextlib.suppress(queue.Empty):
        while True:
            association.dul.to_user_queue.get_nowait()
