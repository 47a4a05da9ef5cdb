"""Live changes: open pages learn by server-sent events that something happened, and fetch it.

One look at the database serves all pages, and none is made while no page is open.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

import structlog
from starlette.concurrency import run_in_threadpool

from orgseg_node.errors import OrgsegError
from orgseg_node.node.store.database import Database

MOST_WATCHERS: Final = 40
_LOOK_S: Final = 1.5
_STEP_S: Final = 0.5
_SAY_ALIVE_S: Final = 15.0

_log = structlog.get_logger("orgseg.web")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mark:
    events: Any
    progress: Any
    newest: Any


class LiveFeed:
    """Tells open pages when the database has changed.

    Parameters
    ----------
    database : the node's database
    """

    def __init__(self, database: Database) -> None:
        self._db = database
        self._watchers = 0
        self._looking = asyncio.Lock()
        self._looked_s = float("-inf")
        self._mark = ""
        self._closed = False

    @property
    def is_full(self) -> bool:
        """Whether no further page can watch."""
        return self._watchers >= MOST_WATCHERS

    def close(self) -> None:
        """End all watching within a moment, because the server stops."""
        self._closed = True

    async def messages(self) -> AsyncIterator[str]:
        """Server-sent events: one at once, and one for each change."""
        self._watchers += 1
        try:
            seen, alive_s = "", time.monotonic()
            while not self._closed:
                mark = await self._look()
                now = time.monotonic()
                if mark != seen:
                    seen, alive_s = mark, now
                    yield f"event: changed\ndata: {mark}\n\n"
                elif now - alive_s > _SAY_ALIVE_S:
                    alive_s = now
                    yield ": alive\n\n"
                await asyncio.sleep(_STEP_S)
        finally:
            self._watchers -= 1

    async def _look(self) -> str:
        """The present mark of the database, at most so many seconds old."""
        async with self._looking:
            if time.monotonic() - self._looked_s >= _LOOK_S:
                try:
                    self._mark = await run_in_threadpool(self.read)
                except OrgsegError as error:
                    _log.warning("live changes not read", code=error.code)
                self._looked_s = time.monotonic()
        return self._mark

    def read(self) -> str:
        """What changes whenever something happens in the node, apart from what persons look at."""
        try:
            (mark,) = self._db.read(
                _Mark,
                "SELECT (SELECT number FROM event WHERE kind <> 'user' ORDER BY number DESC LIMIT 1)"
                " AS events,"
                " (SELECT coalesce(max(updated_at), '') FROM job) AS progress,"
                " (SELECT coalesce(max(last_received_at), '') FROM series) AS newest",
            )
        finally:
            self._db.close()
        return f"{mark.events} {mark.progress} {mark.newest}"
