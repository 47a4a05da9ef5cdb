"""Limits of HTTP connections: half-open ones must not use up what DICOM needs.

uvicorn limits neither the number of open connections nor the time until a request has arrived. Here further
connections are closed when they are accepted, and a connection without a request is closed after a time.
"""

from __future__ import annotations

import asyncio
import resource
from typing import Any, Final, cast

import structlog
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_TIMEOUT_S: Final = 15.0
MOST_CONNECTIONS: Final = 100
_OF_DESCRIPTORS: Final = 4
"""HTTP gets at most one in this many of the file descriptors of the process."""
_FEWEST: Final = 8
_LOG_EVERY_S: Final = 60.0

_log = structlog.get_logger("orgseg.web")


def connection_limit() -> int:
    """How many HTTP connections may be open, so that DICOM, the database and files keep descriptors."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    return max(_FEWEST, min(MOST_CONNECTIONS, soft // _OF_DESCRIPTORS))


def raise_descriptor_limit(wanted: int = 16_384) -> None:
    """Raise the number of files that this process may open, as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


class ClosedConnections:
    """Counts connections that were closed without answer, and logs them at most once a minute."""

    def __init__(self) -> None:
        self._closed: dict[str, int] = {}
        self._logged_at = float("-inf")

    def note(self, reason: str, address: str, now_s: float) -> None:
        """Count one.

        Parameters
        ----------
        reason : why it was closed
        address : of the caller
        now_s : monotonic time
        """
        self._closed[reason] = self._closed.get(reason, 0) + 1
        if now_s - self._logged_at >= _LOG_EVERY_S:
            self._logged_at = now_s
            _log.warning("http connections closed", last_address=address, **self._closed)
            self._closed.clear()


class LimitedProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 with a limit of connections, and of the time until a request has its header."""

    most_connections = MOST_CONNECTIONS
    header_timeout_s = HEADER_TIMEOUT_S
    closed = ClosedConnections()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Accept a connection, or close it if there are too many."""
        self._header_timer: asyncio.TimerHandle | None = None
        super().connection_made(transport)
        if len(self.connections) > self.most_connections:
            self._close("too_many")
            return
        self._await_header()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection."""
        self._stop_timer()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Read what has arrived; the time-out ends with the header of a request."""
        before = self.cycle
        super().handle_events()
        if self.cycle is not before:
            self._stop_timer()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self._await_header()
        super().on_response_complete()

    def _await_header(self) -> None:
        self._stop_timer()
        if not self.transport.is_closing():
            self._header_timer = self.loop.call_later(self.header_timeout_s, self._close, "no_request")

    def _stop_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _close(self, reason: str) -> None:
        address = self.client[0] if self.client else ""
        self.closed.note(reason, address, self.loop.time())
        cast(Any, self.transport).abort()


def limited_protocol(
    header_timeout_s: float = HEADER_TIMEOUT_S, most: int | None = None
) -> type[LimitedProtocol]:
    """The protocol for one server.

    Parameters
    ----------
    header_timeout_s : time until the header of a request must have arrived
    most : open connections; by `connection_limit` when None
    """
    values = {
        "header_timeout_s": header_timeout_s,
        "most_connections": connection_limit() if most is None else most,
        "closed": ClosedConnections(),
    }
    return type("Protocol", (LimitedProtocol,), values)
