"""The audit trail: under what each job was worked on, and a chain of hashes over every event.

Attribution. Before a job changes its state, an event of the job (kind ``job``, change ``context``) names the
context: program, configuration and models. It is written only if it differs from the last one of the job, so
the context of a change is that of the latest such event before it.

Chain of hashes. Events are appended by the database, possibly by several processes. The chain is made
afterwards by a periodic task: each event without a link gets the next one. The number of a link is its
primary key, so if two processes seal at the same moment, one is refused, and finds its events sealed at its
next turn. The order is that of sealing: an event of a long transaction gets its link later, and none is left
out.

::

    hash of link n = SHA-256(hash of link n-1 | n | the event's number, time, kind, subject, change and note)

Marks. In the transaction in which the node appends an event it also writes a keyed hash of it; the key is a
file in the data folder, for the user of the node only. Only events with such a mark are sealed, and one that
was added with SQL is reported as forged. Events from before there was a key have none.

A person who can write to the database can also make the whole chain again, or cut off its end. Against that,
note the head elsewhere (``orgseg audit verify`` prints it, the log has one for each hour), and verify with
``--expect``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import structlog

from orgseg_node.errors import AuditBroken, IllegalTransition
from orgseg_node.node.store.canonical import canonical, event_values, short_hash
from orgseg_node.node.store.clock import Clock, stamp, utc_now
from orgseg_node.node.store.database import Database, Transaction
from orgseg_node.node.store.model import Event

_START: Final = "0" * 64
_AT_ONCE: Final = 2000  # events in one transaction, so that other processes do not wait long
_WINDOW: Final = 1000  # an event of a long transaction may appear this many numbers late

_SHOWN: Final = 10  # numbers of forged events in a message

_log = structlog.get_logger("orgseg.audit")


class Attribution:
    """Notes under which context jobs are worked on, inside transactions of the store.

    Parameters
    ----------
    clock : source of the time
    """

    def __init__(self, clock: Clock = utc_now) -> None:
        self._clock = clock
        self._context = ""

    def works_under(self, database: Database, content: dict[str, Any]) -> str:
        """Set the context of all jobs that are worked on from now on.

        Parameters
        ----------
        database : the node's database
        content : program, configuration and models

        Returns
        -------
        The hash of the context
        """
        context = short_hash(content)
        if context != self._context:
            with database.write() as tx:
                tx.run(
                    "INSERT INTO context (context, content, first_at) VALUES (?, ?, ?)"
                    " ON CONFLICT (context) DO NOTHING",
                    (context, canonical(content), stamp(self._clock())),
                )
            self._context = context
        return context

    def note(self, tx: Transaction, job_id: str) -> None:
        """Note the context of a job before it changes, if it differs from the last one noted."""
        if not self._context:
            return
        changed = tx.run(
            "INSERT INTO job_context (job_id, context) SELECT job_id, ? FROM job WHERE job_id = ?"
            " ON CONFLICT (job_id) DO UPDATE SET context = excluded.context"
            " WHERE job_context.context <> excluded.context",
            (self._context, job_id),
        )
        if changed:
            tx.append_event("job", job_id, "context", self._context)


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One link of the chain."""

    link: int
    event_number: int
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The end of the chain: how many links it has, and the hash of the last."""

    link: int
    hash: str

    def __str__(self) -> str:
        return f"{self.link}:{self.hash}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mark:
    number: int
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Context:
    context: str
    content: str
    first_at: str


class Audit:
    """Seals the history, and proves that it was not changed.

    Parameters
    ----------
    database : the node's database
    """

    def __init__(self, database: Database) -> None:
        self._db = database
        self._swept = False

    def seal(self) -> int:
        """Give every event without a link the next one.

        The first call looks at all events, later calls only at the latest numbers.

        Returns
        -------
        How many events were sealed
        """
        sealed, last = 0, 0 if not self._swept else None
        try:
            while True:
                count, last = self._some(last)
                sealed += count
                if last is None:
                    break
        except IllegalTransition:
            return sealed  # another process is sealing at the same time
        self._swept = True
        return sealed

    def sweep(self) -> Head:
        """Seal, looking at every event, and write the head to the log, which is outside the database."""
        self._swept = False
        self.seal()
        head = self.head()
        _log.info("audit sealed", links=head.link, head=head.hash)
        if forged := self.forged():
            _log.error("events that the node did not write", count=len(forged), first=forged[0])
        return head

    def _some(self, after: int | None) -> tuple[int, int | None]:
        """Seal some events in one transaction.

        Parameters
        ----------
        after : only events with a higher number; None for those near the last one that was sealed

        Returns
        -------
        How many were sealed, and the number after which to continue; None if there are no more
        """
        is_own = self._db.own_events()
        with self._db.write() as tx:
            last = tx.rows("SELECT link, hash, event_number FROM seal ORDER BY link DESC LIMIT 1")
            link, previous, number = last[0] if last else (0, _START, 0)
            begin = link
            since = max(0, int(number) - _WINDOW) if after is None else after
            rows = tx.rows(
                "SELECT e.number, e.at, e.kind, e.subject, e.change, e.note, m.code FROM event e"
                " LEFT JOIN event_mark m ON m.number = e.number WHERE e.number > ?"
                " AND NOT EXISTS (SELECT 1 FROM seal s WHERE s.event_number = e.number)"
                " ORDER BY e.number LIMIT ?",
                (since, _AT_ONCE),
            )
            for *row, code in rows:
                if not is_own(row, code):
                    continue  # forged: never sealed, and reported by `verify`
                link, previous = link + 1, _hash(previous, link + 1, row)
                tx.run(
                    "INSERT INTO seal (link, event_number, hash) VALUES (?, ?, ?)", (link, row[0], previous)
                )
        return link - begin, int(rows[-1][0]) if len(rows) == _AT_ONCE else None

    def forged(self) -> list[int]:
        """Numbers of the events that this node did not write. Raises AuditBroken if its key is missing."""
        is_own = self._db.own_events()
        marks = {mark.number: mark.code for mark in self._db.read(_Mark, "SELECT * FROM event_mark")}
        return [e.number for e in self._events() if not is_own(_row(e), marks.get(e.number))]

    def head(self) -> Head:
        """The end of the chain."""
        found = self._db.read(Link, "SELECT * FROM seal ORDER BY link DESC LIMIT 1")
        return Head(link=found[0].link, hash=found[0].hash) if found else Head(link=0, hash=_START)

    def verify(self, expect: str = "") -> Head:
        """Check the whole chain.

        Parameters
        ----------
        expect : a head noted earlier, ``link:hash``; the chain must still contain it

        Returns
        -------
        The head.

        Raises
        ------
        AuditBroken
            With the number of the first link at which the history differs from what was sealed, or of the
            events that the node did not write.
        """
        if forged := self.forged():
            numbers = ", ".join(map(str, forged[:_SHOWN])) + (", ..." if len(forged) > _SHOWN else "")
            raise AuditBroken(f"{len(forged)} events were not written by the node: {numbers}.")
        events = {event.number: event for event in self._events()}
        head, at = Head(link=0, hash=_START), {"0": _START}
        for link in self._db.read(Link, "SELECT * FROM seal ORDER BY link"):
            if link.link != head.link + 1:
                raise AuditBroken(f"Links {head.link + 1} to {link.link - 1} are missing.")
            event = events.get(link.event_number)
            if event is None:
                raise AuditBroken(f"Event {link.event_number} is missing; link {link.link} sealed it.")
            if _hash(head.hash, link.link, _row(event)) != link.hash:
                raise AuditBroken(f"Event {event.number} is not what link {link.link} sealed.")
            head = Head(link=link.link, hash=link.hash)
            at[str(link.link)] = link.hash
        number, _, digest = expect.partition(":")
        if expect and at.get(number) != digest:
            raise AuditBroken(f"The chain does not contain {expect}; its end was cut off or written again.")
        return head

    def unsealed(self) -> int:
        """The number of events without a link."""
        sealed = {link.event_number for link in self._db.read(Link, "SELECT * FROM seal")}
        return sum(event.number not in sealed for event in self._events())

    def export(self) -> Iterator[dict[str, Any]]:
        """The history, oldest first: each event with its link and the context of its job."""
        seals = {link.event_number: link for link in self._db.read(Link, "SELECT * FROM seal")}
        contexts = {c.context: c for c in self._db.read(_Context, "SELECT * FROM context")}
        under: dict[str, str] = {}
        for event in self._events():
            if event.change == "context":
                under[event.subject] = event.note
            link = seals.get(event.number)
            context = contexts.get(under.get(event.subject, ""))
            yield {
                **_plain(event),
                "context": under.get(event.subject, ""),
                "made_by": context.content if context else "",
                "link": link.link if link else None,
                "hash": link.hash if link else None,
            }

    def _events(self) -> list[Event]:
        return self._db.read(Event, "SELECT * FROM event ORDER BY number")


def _plain(event: Event) -> Mapping[str, Any]:
    return {**asdict(event), "at": event.at.isoformat(timespec="milliseconds")}


def _row(event: Event) -> tuple[Any, ...]:
    return (event.number, event.at, event.kind, event.subject, event.change, event.note)


def _hash(previous: str, link: int, row: Sequence[Any]) -> str:
    """The hash of a link."""
    return hashlib.sha256(canonical([previous, link, *event_values(row)]).encode()).hexdigest()
