"""The first page: whether the node works, what needs a person, and the last cases."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from orgseg_node.node.feedback.charts import Alarm, alarms
from orgseg_node.node.feedback.model import FADING
from orgseg_node.node.operations.overview import Entry, Identity, overview
from orgseg_node.node.store.clock import utc_now
from orgseg_node.node.store.database import Database
from orgseg_node.node.store.series_overrides import SeriesOverrides
from orgseg_node.node.users.roles import Action
from orgseg_node.web.pages import snapshot
from orgseg_node.web.pages.guard import identified, page, plain, refuse_spoofed
from orgseg_node.web.pages.headers import with_headers
from orgseg_node.web.pages.proxy import is_spoofed
from orgseg_node.web.pages.site import Site
from orgseg_node.web.pages.steps import Step, steps_of_entry
from orgseg_node.web.pages.visit import Visit

_LAST: Final = 12
_MOST_FOR_A_PERSON: Final = 50
_KEPT_S: Final = 1.0
_DRIFT_DAYS: Final = 30
"""So long an alarm of a control chart is shown here; all are on the page of quality."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line about a job or a series.

    Attributes
    ----------
    entry : what the node has
    identity : whose images it has; None for a person who may not see patients, or if not known
    steps : what continues it
    """

    entry: Entry
    identity: Identity | None
    steps: tuple[Step, ...] = ()

    @property
    def path(self) -> str:
        """Its page."""
        job = self.entry.job
        return f"/cases/{job.job_id}" if job is not None else f"/series/{self.entry.series.series_uid}"


@dataclass(slots=True)
class Recent:
    """What the node has, read at most once a second however many pages ask.

    Attributes
    ----------
    site : what all pages share
    """

    site: Site
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _read_s: float = float("-inf")
    _content: dict[str, Any] = field(default_factory=dict)

    def content(self) -> dict[str, Any]:
        """Entries, parts, destinations and queue."""
        with self._lock:
            if time.monotonic() - self._read_s > _KEPT_S:
                now, parts = utc_now(), self.site.parts
                self._content = {
                    "now": now,
                    "entries": overview(self.site.config, self.site.store, now),
                    "parts": snapshot.parts_of_node(parts),
                    "destinations": snapshot.destinations(parts, now),
                    "queue": snapshot.queue(parts, now),
                    "drifts": _drifts(self.site.store.database, now),
                }
                self._read_s = time.monotonic()
            return self._content


def _drifts(database: Database, now: datetime) -> list[Alarm]:
    """The last alarms of control charts; how single persons work is no matter of this page."""
    first = now - timedelta(days=_DRIFT_DAYS)
    found = (one for one in alarms(database) if one.measure != FADING)
    return [one for one in found if datetime.fromisoformat(one.raised_at) >= first]


def today_routes(site: Site) -> list[Route]:
    """The page, the part of it that changes, and the stream that says when."""
    recent = Recent(site)

    def today(visit: Visit) -> Response:
        if visit.may(Action.SEE_PATIENTS):
            visit.saw("the list of today")
        return visit.page("today.html", {"here": "today", **_content(recent, visit)})

    def live(visit: Visit) -> Response:
        return visit.page("_today.html", _content(recent, visit))

    async def stream(request: Request) -> Response:
        if is_spoofed(site.config.pages.proxy, request):
            return refuse_spoofed(request)
        if identified(site, request, is_person=False) is None:
            return plain(401, "Log in first.")
        if site.live.is_full:
            return plain(503, "Too many pages are open.")
        response = with_headers(StreamingResponse(site.live.messages(), media_type="text/event-stream"))
        response.headers["X-Accel-Buffering"] = "no"
        return response

    return [
        page(site, "/", Action.SEE_NODE, today),
        page(site, "/live/today", Action.SEE_NODE, live, live=True),
        Route("/live", stream, methods=["GET"]),
    ]


def rows_of(visit: Visit, entries: Sequence[Entry], *, with_steps: bool = False) -> list[Row]:
    """Lines for entries, with whose images they have if the person may see that.

    Parameters
    ----------
    visit : of the person
    entries : what the node has
    with_steps : whether the lines have buttons
    """
    sees = visit.may(Action.SEE_PATIENTS)
    overrides = SeriesOverrides(visit.site.store.database)

    def steps(entry: Entry) -> tuple[Step, ...]:
        volumes = overrides.volumes(entry.series) if entry.job is None else ()
        found = steps_of_entry(entry, volumes, visit.account.name)
        return tuple(one for one in found if visit.may(one.action))

    return [
        Row(
            entry=one,
            identity=visit.site.identities.of(one.series.series_uid) if sees else None,
            steps=steps(one) if with_steps else (),
        )
        for one in entries
    ]


def _content(recent: Recent, visit: Visit) -> dict[str, Any]:
    found = recent.content()
    entries: list[Entry] = found["entries"]
    first = [one for one in entries if one.needs_person]
    last = sorted(entries, key=lambda one: -one.changed_at.timestamp())[:_LAST]
    return {
        **{name: found[name] for name in ("now", "parts", "destinations", "queue", "drifts")},
        "persons": rows_of(visit, first[:_MOST_FOR_A_PERSON], with_steps=True),
        "more_persons": max(0, len(first) - _MOST_FOR_A_PERSON),
        "last": rows_of(visit, last),
        "done": visit.query("done"),
    }
