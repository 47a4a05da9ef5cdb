"""The list of cases, and the search in it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Final

from starlette.responses import Response
from starlette.routing import Route

from orgseg_node.node.operations.overview import Entry, Identity, overview
from orgseg_node.node.store.clock import utc_now
from orgseg_node.node.store.model import Delivery, DeliveryState
from orgseg_node.node.store.source_answers import Answers
from orgseg_node.node.store.store import Store
from orgseg_node.node.users.roles import Action
from orgseg_node.web.pages.guard import page
from orgseg_node.web.pages.site import Site
from orgseg_node.web.pages.today import rows_of
from orgseg_node.web.pages.visit import Visit

_MOST: Final = 100
_MOST_SEARCHED: Final = 3000
_STATES: Final = (
    *("REVIEW", "FAILED", "HOLD", "CONFLICT", "QUEUED", "SENDING", "DONE"),
    *("RECEIVING", "IGNORED", "REJECTED", "CANCELLED", "SUPERSEDED"),
)


def cases_routes(site: Site) -> list[Route]:
    """The list, and the part of it that a search fetches."""

    def cases(visit: Visit) -> Response:
        words = visit.query("q")
        visit.saw("the list of cases, searched" if words else "the list of cases")
        template = "_cases.html" if visit.request.headers.get("hx-request") else "cases.html"
        entries, is_cut = _search(visit)
        store = visit.site.store
        content = {
            "here": "cases",
            "rows": rows_of(visit, entries),
            "is_cut": is_cut,
            "sent": {one.job.job_id: _sent(store.deliveries(one.job.job_id)) for one in entries if one.job},
            "expected": {one.series.series_uid: _expected(store, one) for one in entries},
            "states": _STATES,
            "asked": {name: visit.query(name) for name in ("q", "state", "since")},
        }
        return visit.page(template, content)

    return [page(site, "/cases", Action.SEE_PATIENTS, cases)]


def _search(visit: Visit) -> tuple[list[Entry], bool]:
    """The entries that a search finds, the newest first, and whether there are more."""
    site, state, since = visit.site, visit.query("state").upper(), _since(visit.query("since"))
    entries = overview(site.config, site.store, utc_now())
    entries = sorted(entries, key=lambda one: -one.changed_at.timestamp())
    if state:
        entries = [one for one in entries if one.state == state]
    if since is not None:
        entries = [one for one in entries if one.changed_at >= since]
    text = visit.query("q").casefold()
    if not text:
        return entries[:_MOST], len(entries) > _MOST
    found: list[Entry] = []
    for number, one in enumerate(entries):
        if number >= _MOST_SEARCHED or len(found) >= _MOST:
            return found, True
        identity = None
        if not _is_in(text, _of_node(one)):
            identity = site.identities.of(one.series.series_uid)
            if identity is None or not _is_in(text, _of_images(identity)):
                continue
        found.append(one)
    return found, False


def _is_in(text: str, values: Iterator[str]) -> bool:
    """Whether every word of a text is in one of the values."""
    every = "\n".join(values).casefold()
    return all(word in every for word in text.split())


def _of_node(one: Entry) -> Iterator[str]:
    yield from (one.series.series_uid, one.series.calling_ae, one.series.called_ae, *one.destinations)
    if one.job is not None:
        yield from (one.job.job_id, one.job.protocol, one.job.rule, *one.job.bundles)


def _of_images(identity: Identity) -> Iterator[str]:
    yield identity.patient_name.replace("^", " ")
    yield from (identity.patient_name, identity.patient_id, identity.study_uid, identity.accession)
    yield identity.description


def _since(text: str) -> datetime | None:
    """The beginning of a day, or so many days ago; None if it cannot be read."""
    if text.isdecimal() and len(text) <= 4:
        return utc_now() - timedelta(days=int(text))
    try:
        return datetime.combine(date.fromisoformat(text), datetime.min.time()).astimezone()
    except (ValueError, OverflowError):
        return None


def _sent(deliveries: list[Delivery]) -> list[tuple[str, str]]:
    """Each destination with the least that all its objects have: confirmed, stored, open or failed."""
    places: dict[str, list[DeliveryState]] = {}
    for one in deliveries:
        if one.state is not DeliveryState.DROPPED:
            places.setdefault(one.destination, []).append(one.state)
    return [(name, _least(states)) for name, states in sorted(places.items())]


def _least(states: list[DeliveryState]) -> str:
    if DeliveryState.FAILED in states:
        return "failed"
    if all(state is DeliveryState.COMMITTED for state in states):
        return "confirmed"
    return "stored" if all(s in {DeliveryState.STORED, DeliveryState.COMMITTED} for s in states) else "open"


def _expected(store: Store, one: Entry) -> int | None:
    known = Answers(store.database).of(one.series)
    return known.expected if known is not None else None
