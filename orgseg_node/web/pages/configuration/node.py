"""The node: its configuration as it was read, health, accounts, versions; and the search in the history."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

from starlette.responses import Response
from starlette.routing import Route

from orgseg_node.contouring.report import versions
from orgseg_node.errors import ItemsFailed
from orgseg_node.node.delivery.echo import EchoMonitor
from orgseg_node.node.delivery.sender import AnySender
from orgseg_node.node.routing.revision import revision_of
from orgseg_node.node.store.audit import Audit
from orgseg_node.node.store.clock import utc_now
from orgseg_node.node.store.database import Database
from orgseg_node.node.store.model import Event
from orgseg_node.node.users.reviewers import missing_reviewers
from orgseg_node.node.users.roles import Action
from orgseg_node.web.health import readiness_problems, readiness_warnings
from orgseg_node.web.pages import snapshot
from orgseg_node.web.pages.configuration.licences import software
from orgseg_node.web.pages.guard import command, page
from orgseg_node.web.pages.site import Site
from orgseg_node.web.pages.visit import Visit, go_to

MOST_EVENTS: Final = 300
_NOTICES: Final = 10
_SECRET: Final = ("password", "secret", "token", "url", "key")


def node_routes(site: Site) -> list[Route]:
    """The page of the node, and its history."""
    return [
        page(site, "/node", Action.SEE_CONFIGURATION, _node),
        command(site, "/node/echo", Action.SEE_CONFIGURATION, _echo),
        page(site, "/history", Action.SEE_CONFIGURATION, _history),
    ]


def _node(visit: Visit) -> Response:
    site, config = visit.site, visit.site.config
    now, accounts = utc_now(), site.accounts.all()
    content = {
        "here": "node",
        "done": visit.query("done"),
        "now": now,
        "settings": settings_of(config.model_dump(mode="json")),
        "revision": revision_of(config),
        "problems": readiness_problems(site.parts),
        "warnings": [*readiness_warnings(site.parts), *filter(None, [missing_reviewers(config, accounts)])],
        "parts": snapshot.parts_of_node(site.parts),
        "destinations": snapshot.destinations(site.parts, now),
        "accounts": accounts,
        "versions": versions(),
        "software": software(),
        "notices": search_history(site.store.database, "", "notice")[:_NOTICES],
        "head": Audit(site.store.database).head(),
    }
    return visit.page("node.html", content)


def _echo(visit: Visit) -> Response:
    """Ask every destination now whether it answers."""
    monitor = EchoMonitor(visit.site.config, visit.site.store.database, AnySender())
    with suppress(ItemsFailed):  # the page shows which one
        monitor.check()
    visit.site.accounts.record(visit.account.name, "echo", "every destination")
    return go_to("/node", "echo")


def settings_of(content: Mapping[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """Each section of a configuration with its settings as text; whatever may hold a secret is hidden."""
    return {name: list(_flat(value, "")) for name, value in content.items() if value not in ({}, [], None)}


def _flat(value: Any, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list) and any(isinstance(one, dict) for one in value):
        for number, inner in enumerate(value, start=1):
            yield from _flat(inner, f"{name}.{number}" if name else str(number))
    elif value is not None:
        last = name.rpartition(".")[2]
        is_hidden = any(word in last for word in _SECRET) and not isinstance(value, (bool, int, float))
        text = "•••" if is_hidden and value else value if isinstance(value, str) else json.dumps(value)
        yield name, str(text)


def _history(visit: Visit) -> Response:
    words, kind, before = visit.query("q"), visit.query("kind"), visit.query("before")
    number = int(before) if before.isdecimal() and len(before) < 18 else 2**62
    found = search_history(visit.site.store.database, words, kind, number)
    content = {
        "here": "history",
        "events": found,
        "asked": {"q": words, "kind": kind},
        "kinds": (
            "series",
            "job",
            "delivery",
            "model",
            "feedback",
            "user",
            "notice",
            "config",
            "protocol",
            "audit",
        ),
        "older": found[-1].number if len(found) == MOST_EVENTS else None,
    }
    return visit.page("history.html", content)


def search_history(database: Database, words: str, kind: str = "", before: int = 2**62) -> list[Event]:
    """Events of the history, the newest first.

    Parameters
    ----------
    database : the node's database
    words : text that is in subject, change or note; empty for any
    kind : only events of this kind; empty for any
    before : only events with a smaller number
    """
    pattern = "%" + words.lower().replace("!", "!!").replace("%", "!%").replace("_", "!_") + "%"
    return database.read(
        Event,
        "SELECT number, at, kind, subject, change, note FROM event WHERE number < ? AND (? = '' OR kind = ?)"
        " AND (? = '' OR lower(subject || ' ' || change || ' ' || note) LIKE ? ESCAPE '!')"
        " ORDER BY number DESC LIMIT ?",
        (before, kind, kind, words, pattern, MOST_EVENTS),
    )
