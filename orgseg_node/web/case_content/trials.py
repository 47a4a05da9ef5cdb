"""The last trials of protocols, in memory: the viewer fetches their second lines."""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from orgseg_node.errors import JobRefuses, ResultMissing
from orgseg_node.node.review.trying import Tried
from orgseg_node.web.case_content.images import OpenCase
from orgseg_node.web.case_content.report import OrganRow

_MOST: Final = 8
_WAIT_S: Final = 20.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KeptTrial:
    """A trial, for the person who made it.

    Attributes
    ----------
    token : names it in addresses
    person : name of the account
    digest : of the text that was tried
    tried : the result
    lines : of its second line, see `static/second.js`
    """

    token: str
    person: str
    digest: str
    tried: Tried
    lines: list[dict[str, Any]]


class Trials:
    """The last trials; one is made at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._kept: OrderedDict[str, KeptTrial] = OrderedDict()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for the turn; a trial needs the memory of a CT. Raises JobRefuses after some seconds."""
        if not self._turn.acquire(timeout=_WAIT_S):
            raise JobRefuses("Another protocol is being tried just now; repeat it in a minute.")
        try:
            yield
        finally:
            self._turn.release()

    def keep(self, person: str, text: str, tried: Tried, lines: list[dict[str, Any]]) -> KeptTrial:
        """Keep a trial until others displace it.

        Parameters
        ----------
        person : who made it
        text : that was tried
        tried : the result
        lines : of its second line
        """
        kept = KeptTrial(
            token=secrets.token_urlsafe(12), person=person, digest=_digest(text), tried=tried, lines=lines
        )
        with self._lock:
            self._kept[kept.token] = kept
            while len(self._kept) > _MOST:
                self._kept.popitem(last=False)
        return kept

    def of(self, person: str, token: str) -> KeptTrial:
        """A trial of a person. Raises ResultMissing if it is another one's, or was displaced."""
        with self._lock:
            kept = self._kept.get(token)
        if kept is None or kept.person != person:
            raise ResultMissing("The trial is not here any more; try the protocol again.")
        return kept

    def last_of(self, person: str, text: str) -> KeptTrial | None:
        """The last trial in which a person tried this text."""
        with self._lock:
            every = [
                one for one in self._kept.values() if (one.person, one.digest) == (person, _digest(text))
            ]
        return every[-1] if every else None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def drawn_places(tried: Tried, opened: OpenCase | None, organs: list[OrganRow]) -> dict[str, int]:
    """Position of each structure among those that were delivered and are drawn, by its key.

    Parameters
    ----------
    tried : the trial
    opened : the case with its delivered contours; None if they cannot be shown
    organs : rows of the case, which know the delivered name of each key
    """
    names = {row.key: row.name for row in organs if row.key}
    places = {organ.name: index for index, organ in enumerate(opened.organs if opened else ())}
    every = {
        row["key"]: places.get(names.get(row["key"], row["before"]["name"]))
        for row in tried.document["structures"]
        if row["before"]
    }
    return {key: place for key, place in every.items() if place is not None}


def second_lines(tried: Tried, drawn: Mapping[str, int]) -> list[dict[str, Any]]:
    """The structures that are added, removed or changed, as the viewer draws a second line.

    Parameters
    ----------
    tried : the trial
    drawn : see `drawn_places`
    """
    rows = {row["key"]: row for row in tried.document["structures"]}
    return [
        {
            "roi": line["key"],
            "drawn": drawn.get(line["key"]),
            "color": (rows[line["key"]]["after"] or rows[line["key"]]["before"])["color"],
            "worst": rows[line["key"]]["worst"],
            "slices": line["slices"],
            "counts": line["counts"],
        }
        for line in tried.document["lines"]
    ]
